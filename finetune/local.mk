# finetune/ - settings, optimizer, schedule, trainer, checkpoints, log, report
libbise_a_SOURCES += %D%/chart.c %D%/chart.h %D%/feed.c %D%/feed.h \
  %D%/finetune.c %D%/finetune.h %D%/rundir.c %D%/rundir.h %D%/train_loop.c \
  %D%/optimizer.c %D%/optimizer.h \
  %D%/report.c %D%/report.h %D%/runlog.c %D%/runlog.h \
  %D%/schedule.c %D%/schedule.h \
  %D%/settings.c %D%/settings.def %D%/settings.h \
  %D%/trainer.c %D%/trainer.h %D%/trainstate.c %D%/trainstate.h
if HAVE_CHECK
check_PROGRAMS += tests/check_optimizer tests/check_runlog
TESTS += tests/check_optimizer tests/check_runlog
tests_check_optimizer_SOURCES = tests/check_optimizer.c
tests_check_optimizer_CPPFLAGS = $(test_cppflags)
tests_check_optimizer_LDADD = $(test_ldadd)
tests_check_runlog_SOURCES = tests/check_runlog.c
tests_check_runlog_CPPFLAGS = $(test_cppflags)
tests_check_runlog_LDADD = $(test_ldadd)
endif
