# core/ - errors, memory, strings, JSON, files, threads, CPU, dtypes
libbise_a_SOURCES += \
  %D%/attr.h %D%/bytes.h %D%/clock.c %D%/clock.h %D%/cpu.c %D%/cpu.h \
  %D%/dtype.c %D%/dtype.h %D%/dtypes.def %D%/error.c %D%/error.h \
  %D%/ahead.c %D%/ahead.h %D%/direct.c %D%/direct.h %D%/file.c %D%/file.h %D%/json.c %D%/json.h %D%/mem.c %D%/mem.h \
  %D%/pool.c %D%/pool.h %D%/progress.c %D%/progress.h %D%/regex.c \
  %D%/regex.h %D%/rng.h %D%/str.c %D%/str.h %D%/strmap.c %D%/strmap.h \
  %D%/tensor.h %D%/version.c %D%/version.h
