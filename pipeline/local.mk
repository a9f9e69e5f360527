# pipeline/ - streams of rows, plans, and the runner that executes them
libbise_a_SOURCES += %D%/check.c %D%/check.h %D%/plan.c %D%/plan.h \
  %D%/run.c %D%/run.h %D%/run_int.h %D%/run_pack.c %D%/stream.c \
  %D%/stream.h
if HAVE_CHECK
check_PROGRAMS += tests/check_stream tests/check_plan
TESTS += tests/check_stream tests/check_plan
tests_check_stream_SOURCES = tests/check_stream.c
tests_check_stream_CPPFLAGS = $(test_cppflags)
tests_check_stream_LDADD = $(test_ldadd)
tests_check_plan_SOURCES = tests/check_plan.c
tests_check_plan_CPPFLAGS = $(test_cppflags)
tests_check_plan_LDADD = $(test_ldadd)
endif
