# deploy/ - sources, headers and tests of this folder
libbise_a_SOURCES += %D%/archive_walk.c %D%/archive_walk.h %D%/oci.c \
  %D%/oci.h %D%/pack.c %D%/pack.h %D%/tree.c %D%/tree.h %D%/unpack.c \
  %D%/sign.c %D%/sign.h \
  %D%/verify.c %D%/verify.h
if HAVE_CHECK
check_PROGRAMS += tests/check_archive
TESTS += tests/check_archive
tests_check_archive_SOURCES = tests/check_archive.c
tests_check_archive_CPPFLAGS = $(test_cppflags)
tests_check_archive_LDADD = $(test_ldadd)
endif
if HAVE_CHECK
check_PROGRAMS += tests/check_shipping
TESTS += tests/check_shipping
tests_check_shipping_SOURCES = tests/check_shipping.c
tests_check_shipping_CPPFLAGS = $(test_cppflags)
tests_check_shipping_LDADD = $(test_ldadd)
endif
EXTRA_DIST += bench/bench_pack.sh
TESTS += tests/cli/pack.sh tests/cli/verify.sh tests/cli/pack_direct.sh tests/cli/pack_oci.sh
EXTRA_DIST += tests/cli/pack.sh tests/cli/verify.sh tests/cli/pack_direct.sh \
  tests/cli/pack_oci.sh
TESTS += tests/cli/formats_judges.sh
EXTRA_DIST += tests/cli/formats_judges.sh tests/judge_formats.py
if HAVE_CHECK
check_PROGRAMS += tests/check_verify
TESTS += tests/check_verify
tests_check_verify_SOURCES = tests/check_verify.c
tests_check_verify_CPPFLAGS = $(test_cppflags)
tests_check_verify_LDADD = $(test_ldadd)
endif
TESTS += tests/cli/hostile.sh
EXTRA_DIST += tests/cli/hostile.sh tests/hostile_files.py
if HAVE_CHECK
check_PROGRAMS += tests/check_writer
TESTS += tests/check_writer
tests_check_writer_SOURCES = tests/check_writer.c
tests_check_writer_CPPFLAGS = $(test_cppflags)
tests_check_writer_LDADD = $(test_ldadd)
endif
TESTS += tests/cli/inspect.sh
EXTRA_DIST += tests/cli/inspect.sh
if HAVE_CHECK
check_PROGRAMS += tests/check_sign
TESTS += tests/check_sign
tests_check_sign_SOURCES = tests/check_sign.c
tests_check_sign_CPPFLAGS = $(test_cppflags)
tests_check_sign_LDADD = $(test_ldadd)
endif
TESTS += tests/cli/sign.sh
EXTRA_DIST += tests/cli/sign.sh tests/judge_signing.py
TESTS += tests/cli/packed_model.sh
EXTRA_DIST += tests/cli/packed_model.sh
# release: the licence's text is COPYING itself, made into a C string.
libbise_a_SOURCES += %D%/release.c %D%/release.h %D%/release_card.c \
  %D%/release_collect.c %D%/release_facts.c %D%/release_facts.h \
  %D%/release_int.h %D%/release_proof.c
nodist_libbise_a_SOURCES += %D%/licence_text.h
BUILT_SOURCES += %D%/licence_text.h
CLEANFILES += %D%/licence_text.h
deploy/licence_text.h: $(srcdir)/COPYING
	$(AM_V_GEN)$(MKDIR_P) deploy && { echo 'static const char licence_text[] ='; \
	  sed 's/[\\"]/\\&/g; s/^/"/; s/$$/\\n"/' $(srcdir)/COPYING; echo ';'; } >$@.tmp && mv $@.tmp $@
if HAVE_CHECK
check_PROGRAMS += tests/check_release
TESTS += tests/check_release
tests_check_release_SOURCES = tests/check_release.c
tests_check_release_CPPFLAGS = $(test_cppflags)
tests_check_release_LDADD = $(test_ldadd)
endif
if HAVE_CHECK
check_PROGRAMS += tests/check_release_inputs
TESTS += tests/check_release_inputs
tests_check_release_inputs_SOURCES = tests/check_release_inputs.c
tests_check_release_inputs_CPPFLAGS = $(test_cppflags)
tests_check_release_inputs_LDADD = $(test_ldadd)
endif
TESTS += tests/cli/release.sh
EXTRA_DIST += tests/cli/release.sh
TESTS += tests/cli/release_judges.sh
EXTRA_DIST += tests/cli/release_judges.sh tests/judge_release.py
