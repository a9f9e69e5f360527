# finetune/ - settings, optimizer, schedule, trainer, checkpoints, log, report
libbise_a_SOURCES += %D%/chart.c %D%/chart.h \
  %D%/evaluate.c %D%/feed.c %D%/feed.h \
  %D%/finetune.c %D%/finetune.h %D%/rundir.c %D%/rundir.h %D%/train_loop.c \
  %D%/plan.c %D%/plan.h %D%/optimizer.c %D%/optimizer.h \
  %D%/report.c %D%/report.h %D%/runlog.c %D%/runlog.h \
  %D%/schedule.c %D%/schedule.h \
  %D%/settings.c %D%/settings.def %D%/settings.h \
  %D%/trainer.c %D%/trainer.h %D%/trainstate.c %D%/trainstate.h
if HAVE_CHECK
finetune_tests = tests/check_evaluate tests/check_feed \
  tests/check_finetune tests/check_optimizer \
 tests/check_report tests/check_rundir tests/check_runlog \
  tests/check_settings tests/check_trainer
check_PROGRAMS += $(finetune_tests)
TESTS += $(finetune_tests)
tests_check_optimizer_SOURCES = tests/check_optimizer.c
tests_check_optimizer_CPPFLAGS = $(test_cppflags)
tests_check_optimizer_LDADD = $(test_ldadd)
tests_check_runlog_SOURCES = tests/check_runlog.c
tests_check_runlog_CPPFLAGS = $(test_cppflags)
tests_check_runlog_LDADD = $(test_ldadd)
tests_check_feed_SOURCES = tests/check_feed.c
tests_check_feed_CPPFLAGS = $(test_cppflags)
tests_check_feed_LDADD = $(test_ldadd)
tests_check_finetune_SOURCES = tests/check_finetune.c
tests_check_finetune_CPPFLAGS = $(test_cppflags)
tests_check_finetune_LDADD = $(test_ldadd)
tests_check_rundir_SOURCES = tests/check_rundir.c
tests_check_rundir_CPPFLAGS = $(test_cppflags)
tests_check_rundir_LDADD = $(test_ldadd)
tests_check_evaluate_SOURCES = tests/check_evaluate.c
tests_check_evaluate_CPPFLAGS = $(test_cppflags)
tests_check_evaluate_LDADD = $(test_ldadd)
tests_check_report_SOURCES = tests/check_report.c
tests_check_report_CPPFLAGS = $(test_cppflags)
tests_check_report_LDADD = $(test_ldadd)
tests_check_settings_SOURCES = tests/check_settings.c
tests_check_settings_CPPFLAGS = $(test_cppflags)
tests_check_settings_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_memplan
TESTS += tests/check_memplan
tests_check_memplan_SOURCES = tests/check_memplan.c
tests_check_memplan_CPPFLAGS = $(test_cppflags)
tests_check_memplan_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_step
TESTS += tests/check_step
tests_check_step_SOURCES = tests/check_step.c
tests_check_step_CPPFLAGS = $(test_cppflags)
tests_check_step_LDADD = $(test_ldadd)
tests_check_trainer_SOURCES = tests/check_trainer.c
tests_check_trainer_CPPFLAGS = $(test_cppflags)
tests_check_trainer_LDADD = $(test_ldadd)
endif
EXTRA_DIST += \
  tests/golden/train/ministral3/adapter-end/adapter_config.json \
  tests/golden/train/ministral3/adapter-end/adapter_model.safetensors \
  tests/golden/train/ministral3/adapter-start/adapter_config.json \
  tests/golden/train/ministral3/adapter-start/adapter_model.safetensors \
  tests/golden/train/ministral3/batches.safetensors \
  tests/golden/train/ministral3/steps.json \
  tests/golden/train/window/adapter-end/adapter_config.json \
  tests/golden/train/window/adapter-end/adapter_model.safetensors \
  tests/golden/train/window/adapter-start/adapter_config.json \
  tests/golden/train/window/adapter-start/adapter_model.safetensors \
  tests/golden/train/window/batches.safetensors \
  tests/golden/train/window/steps.json
EXTRA_DIST += tests/cli/finetune.sh tests/cli/finetune_qlora.sh tests/cli/finetune_peft.sh \
  tests/cli/finetune_kill.sh \
  tests/peft_compare.py tests/qlora_compare.py
TESTS += tests/cli/finetune.sh tests/cli/finetune_qlora.sh tests/cli/finetune_peft.sh \
  tests/cli/finetune_kill.sh
