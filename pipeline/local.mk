# pipeline/ - streams of rows, plans, and the runner that executes them
libbise_a_SOURCES += %D%/check.c %D%/check.h %D%/plan.c %D%/plan.h \
  %D%/run.c %D%/run.h %D%/stream.c %D%/stream.h
