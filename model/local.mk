# model/ - configuration, roles, checkpoint, LoRA, graph, sampling
libbise_a_SOURCES += %D%/checkpoint.h %D%/config.h %D%/dims.h %D%/graph.h \
  %D%/lora.h %D%/role.h %D%/sampler.h
