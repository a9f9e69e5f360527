# tests/ - each folder's local.mk adds its own check programs; here stand the
# shared helpers and the tests of core/.
noinst_HEADERS = tests/check_main.h
if HAVE_CHECK
check_PROGRAMS += tests/check_core
TESTS += tests/check_core
tests_check_core_SOURCES = tests/check_core.c
tests_check_core_CPPFLAGS = $(test_cppflags)
tests_check_core_LDADD = $(test_ldadd)
endif
TESTS += tests/check_layers.sh
EXTRA_DIST += tests/check_layers.sh tests/check_all.sh
