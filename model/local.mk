# model/ - configuration, roles, checkpoint, LoRA, graph, sampling
libbise_a_SOURCES += %D%/checkpoint.h %D%/config.h %D%/dims.h %D%/graph.h \
  %D%/lora.h %D%/role.h %D%/sampler.h
# configuration, names and checkpoints
libbise_a_SOURCES += %D%/families.def %D%/roles.def %D%/family.h %D%/family.c \
  %D%/resolve.h %D%/resolve.c %D%/config.c %D%/config_native.c \
  %D%/config_gguf.c %D%/rope.c %D%/role.c %D%/role_shape.c %D%/card.h %D%/card.c \
  %D%/lineage.h %D%/lineage.c \
  %D%/checkpoint.c
libbise_a_SOURCES += %D%/basequant.c %D%/basequant.h
# the graph: linear layers, attention, forward, backward, loss, cache
libbise_a_SOURCES += %D%/activations.c %D%/activations.h %D%/attention.c \
  %D%/attention.h %D%/attention_bf16.c %D%/attention_bf16.h %D%/backprop.c \
  %D%/backprop_bf16.c %D%/balance.c %D%/cache.c %D%/dora.c %D%/graph.c \
  %D%/graph_int.h %D%/graph_pages.c %D%/graph_plan.c %D%/layers.c \
  %D%/layers_bf16.c %D%/layerwise.c %D%/linear.c %D%/linear.h %D%/linear_int.h %D%/loss.c %D%/loss_rows.c \
  %D%/matmul.c %D%/matmul_bf16.c %D%/matmul_int8.c \
  %D%/matmul_int8.h %D%/matmul_panel.c %D%/mla.c %D%/moe.c \
  %D%/rows16.h \
  %D%/sampler.c %D%/score.c %D%/score.h
if HAVE_CHECK
check_PROGRAMS += tests/check_attention
TESTS += tests/check_attention
tests_check_attention_SOURCES = tests/check_attention.c
tests_check_attention_CPPFLAGS = $(test_cppflags)
tests_check_attention_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_basequant
TESTS += tests/check_basequant
tests_check_basequant_SOURCES = tests/check_basequant.c
tests_check_basequant_CPPFLAGS = $(test_cppflags)
tests_check_basequant_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_sampler
TESTS += tests/check_sampler
tests_check_sampler_SOURCES = tests/check_sampler.c
tests_check_sampler_CPPFLAGS = $(test_cppflags)
tests_check_sampler_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_score
TESTS += tests/check_score
tests_check_score_SOURCES = tests/check_score.c
tests_check_score_CPPFLAGS = $(test_cppflags)
tests_check_score_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_activations
TESTS += tests/check_activations
tests_check_activations_SOURCES = tests/check_activations.c
tests_check_activations_CPPFLAGS = $(test_cppflags)
tests_check_activations_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_linear
TESTS += tests/check_linear
tests_check_linear_SOURCES = tests/check_linear.c
tests_check_linear_CPPFLAGS = $(test_cppflags)
tests_check_linear_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_gemm
TESTS += tests/check_gemm
tests_check_gemm_SOURCES = tests/check_gemm.c
tests_check_gemm_CPPFLAGS = $(test_cppflags)
tests_check_gemm_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_loss
TESTS += tests/check_loss
tests_check_loss_SOURCES = tests/check_loss.c
tests_check_loss_CPPFLAGS = $(test_cppflags)
tests_check_loss_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_loss_rows
TESTS += tests/check_loss_rows
tests_check_loss_rows_SOURCES = tests/check_loss_rows.c
tests_check_loss_rows_CPPFLAGS = $(test_cppflags)
tests_check_loss_rows_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_forward
TESTS += tests/check_forward
tests_check_forward_SOURCES = tests/check_forward.c
tests_check_forward_CPPFLAGS = $(test_cppflags)
tests_check_forward_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_partial
TESTS += tests/check_partial
tests_check_partial_SOURCES = tests/check_partial.c
tests_check_partial_CPPFLAGS = $(test_cppflags)
tests_check_partial_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_kernels
TESTS += tests/check_kernels
tests_check_kernels_SOURCES = tests/check_kernels.c
tests_check_kernels_CPPFLAGS = $(test_cppflags)
tests_check_kernels_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_train16
TESTS += tests/check_train16
tests_check_train16_SOURCES = tests/check_train16.c
tests_check_train16_CPPFLAGS = $(test_cppflags)
tests_check_train16_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_rows16
TESTS += tests/check_rows16
tests_check_rows16_SOURCES = tests/check_rows16.c
tests_check_rows16_CPPFLAGS = $(test_cppflags)
tests_check_rows16_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_rows16_linear
TESTS += tests/check_rows16_linear
tests_check_rows16_linear_SOURCES = tests/check_rows16_linear.c
tests_check_rows16_linear_CPPFLAGS = $(test_cppflags)
tests_check_rows16_linear_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_lineage
TESTS += tests/check_lineage
tests_check_lineage_SOURCES = tests/check_lineage.c
tests_check_lineage_CPPFLAGS = $(test_cppflags)
tests_check_lineage_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_graph
TESTS += tests/check_graph
tests_check_graph_SOURCES = tests/check_graph.c
tests_check_graph_CPPFLAGS = $(test_cppflags)
tests_check_graph_LDADD = $(test_ldadd)
endif
# adapters
libbise_a_SOURCES += %D%/peft.h %D%/peft.c %D%/lora.c %D%/lora_file.c %D%/lora_file.h %D%/lora_load.c \
  %D%/lora_save.c
EXTRA_DIST += tests/tiny_model.h tests/cli/same.inc tests/same_weights.h
if HAVE_CHECK
check_PROGRAMS += tests/check_config tests/check_role tests/check_checkpoint \
  tests/check_lora tests/check_lora_load tests/check_checkpoint_all \
  tests/check_config_ways tests/check_resolve
TESTS += tests/check_config tests/check_role tests/check_checkpoint \
  tests/check_lora tests/check_lora_load tests/check_checkpoint_all \
  tests/check_config_ways tests/check_resolve
tests_check_lora_load_SOURCES = tests/check_lora_load.c
tests_check_lora_load_CPPFLAGS = $(test_cppflags)
tests_check_lora_load_LDADD = $(test_ldadd)
tests_check_checkpoint_all_SOURCES = tests/check_checkpoint_all.c
tests_check_checkpoint_all_CPPFLAGS = $(test_cppflags)
tests_check_checkpoint_all_LDADD = $(test_ldadd)
tests_check_config_ways_SOURCES = tests/check_config_ways.c
tests_check_config_ways_CPPFLAGS = $(test_cppflags)
tests_check_config_ways_LDADD = $(test_ldadd)
tests_check_resolve_SOURCES = tests/check_resolve.c
tests_check_resolve_CPPFLAGS = $(test_cppflags)
tests_check_resolve_LDADD = $(test_ldadd)
tests_check_lora_SOURCES = tests/check_lora.c
tests_check_lora_CPPFLAGS = $(test_cppflags)
tests_check_lora_LDADD = $(test_ldadd)
tests_check_config_SOURCES = tests/check_config.c
tests_check_config_CPPFLAGS = $(test_cppflags)
tests_check_config_LDADD = $(test_ldadd)
tests_check_role_SOURCES = tests/check_role.c
tests_check_role_CPPFLAGS = $(test_cppflags)
tests_check_role_LDADD = $(test_ldadd)
tests_check_checkpoint_SOURCES = tests/check_checkpoint.c
tests_check_checkpoint_CPPFLAGS = $(test_cppflags)
tests_check_checkpoint_LDADD = $(test_ldadd)
endif
TESTS += tests/cli/checkpoint_judges.sh
EXTRA_DIST += tests/cli/checkpoint_judges.sh tests/judge_checkpoints.py
