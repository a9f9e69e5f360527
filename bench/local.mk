# bench/ - sources, headers and tests of this folder
EXTRA_PROGRAMS += bench/bench_panel
bench_bench_panel_SOURCES = %D%/bench_panel.c
bench_bench_panel_LDADD = libbise.a $(BISE_LIBS)
EXTRA_PROGRAMS += bench/bench_train
bench_bench_train_SOURCES = %D%/bench_train.c
bench_bench_train_LDADD = libbise.a $(BISE_LIBS)
EXTRA_PROGRAMS += bench/bench_codecs
bench_bench_codecs_SOURCES = %D%/bench_codecs.c
bench_bench_codecs_LDADD = libbise.a $(BISE_LIBS)
EXTRA_DIST += %D%/codecs_vs_ggml.py %D%/quantize_ratios.py
EXTRA_PROGRAMS += bench/bench_tokenizer
bench_bench_tokenizer_SOURCES = %D%/bench_tokenizer.c
bench_bench_tokenizer_LDADD = libbise.a $(BISE_LIBS)
EXTRA_DIST += %D%/bench_tokenizer.py
EXTRA_PROGRAMS += bench/bench_generate
bench_bench_generate_SOURCES = %D%/bench_generate.c
bench_bench_generate_LDADD = libbise.a $(BISE_LIBS)
