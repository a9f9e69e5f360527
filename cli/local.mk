# cli/ - main, command table, options, progress, printing. Commands are in a
# library of their own so that tests can link them.
noinst_LIBRARIES += libcli.a
libcli_a_SOURCES = %D%/args.c %D%/args.h %D%/chunks.c %D%/chunks.h \
  %D%/cmd_convert.c %D%/cmd_merge.c \
  %D%/cmd_quantize.c %D%/job.c %D%/job.h %D%/command.h %D%/commands.def \
  %D%/help.c %D%/help.h %D%/packed.c %D%/packed.h %D%/print.c \
  %D%/record.c %D%/record.h \
  %D%/table.c %D%/table.h %D%/term.c %D%/term.h
bise_SOURCES = %D%/main.c
bise_LDADD = libcli.a libbise.a $(BISE_LIBS)
if HAVE_CHECK
check_PROGRAMS += tests/check_args
TESTS += tests/check_args
tests_check_args_SOURCES = tests/check_args.c
tests_check_args_CPPFLAGS = $(test_cppflags)
tests_check_args_LDADD = libcli.a $(test_ldadd)
check_PROGRAMS += tests/check_term
TESTS += tests/check_term
tests_check_term_SOURCES = tests/check_term.c
tests_check_term_CPPFLAGS = $(test_cppflags)
tests_check_term_LDADD = libcli.a $(test_ldadd)
endif
# cmd_eval, cmd_generate, cmd_chat
libcli_a_SOURCES += %D%/cmd_chat.c %D%/cmd_eval.c %D%/cmd_generate.c \
  %D%/generate.h %D%/loaded.c %D%/loaded.h
libcli_a_SOURCES += %D%/cmd_finetune.c %D%/cmd_report.c
# cmd_inspect, cmd_pack, cmd_unpack, cmd_verify
libcli_a_SOURCES += %D%/cmd_inspect.c %D%/cmd_pack.c %D%/cmd_unpack.c \
  %D%/cmd_release.c %D%/cmd_sign.c %D%/cmd_verify.c
libcli_a_SOURCES += %D%/cmd_data.c %D%/data_print.c %D%/data_print.h
# cmd_tokenize
libcli_a_SOURCES += %D%/cmd_tokenize.c
TESTS += tests/cli/tokenize.sh
EXTRA_DIST += tests/cli/tokenize.sh
TESTS += tests/cli/eval.sh tests/cli/eval_judge.sh tests/cli/generate.sh \
  tests/cli/run_errors.sh
EXTRA_DIST += tests/cli/eval.sh tests/cli/eval_judge.sh \
  tests/cli/generate.sh tests/cli/run_errors.sh tests/judge_eval.py
noinst_PROGRAMS += cli/docgen
cli_docgen_SOURCES = %D%/docgen.c
cli_docgen_LDADD = libcli.a libbise.a $(BISE_LIBS)
libcli_a_SOURCES += %D%/cmd_adapter.c
TESTS += tests/cli/adapter.sh tests/cli/adapter_judges.sh
EXTRA_DIST += tests/cli/adapter.sh tests/cli/adapter_judges.sh \
  tests/make_adapter.py tests/peft_loads.py
libcli_a_SOURCES += %D%/cmd_calibrate.c
TESTS += tests/cli/no_network.sh
EXTRA_DIST += tests/cli/no_network.sh
