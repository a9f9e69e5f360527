# quantize/ - type mixtures, importance matrices, quantized plans
libbise_a_SOURCES += %D%/budget.c %D%/budget.h %D%/calibrate.c %D%/calibrate.h \
  %D%/feedback.c %D%/feedback.h %D%/gptq.c %D%/gptq.h %D%/hessian.c %D%/hessian.h %D%/imatrix.c %D%/imatrix.h %D%/mixture.c \
  %D%/mixture.h %D%/mixtures.def %D%/quantize.c %D%/quantize.h
if HAVE_CHECK
check_PROGRAMS += tests/check_budget tests/check_feedback tests/check_gptq tests/check_mixture tests/check_imatrix tests/check_quantize
TESTS += tests/check_budget tests/check_feedback tests/check_gptq tests/check_mixture tests/check_imatrix tests/check_quantize
tests_check_budget_SOURCES = tests/check_budget.c
tests_check_budget_CPPFLAGS = $(test_cppflags)
tests_check_budget_LDADD = $(test_ldadd)
tests_check_feedback_SOURCES = tests/check_feedback.c
tests_check_feedback_CPPFLAGS = $(test_cppflags)
tests_check_feedback_LDADD = $(test_ldadd)
tests_check_gptq_SOURCES = tests/check_gptq.c
tests_check_gptq_CPPFLAGS = $(test_cppflags)
tests_check_gptq_LDADD = $(test_ldadd)
tests_check_imatrix_SOURCES = tests/check_imatrix.c
tests_check_imatrix_CPPFLAGS = $(test_cppflags)
tests_check_imatrix_LDADD = $(test_ldadd)
tests_check_quantize_SOURCES = tests/check_quantize.c
tests_check_quantize_CPPFLAGS = $(test_cppflags)
tests_check_quantize_LDADD = $(test_ldadd)
tests_check_mixture_SOURCES = tests/check_mixture.c
tests_check_mixture_CPPFLAGS = $(test_cppflags)
tests_check_mixture_LDADD = $(test_ldadd)
endif
TESTS += tests/cli/quantize.sh tests/cli/quantize_oracle.sh \
  tests/cli/calibrate.sh tests/cli/gptq.sh tests/cli/kill.sh
EXTRA_DIST += tests/cli/quantize.sh tests/cli/quantize_oracle.sh \
  tests/cli/calibrate.sh tests/cli/gptq.sh tests/cli/kill.sh tests/judge_quantize.py \
  tests/judge_imatrix.py
