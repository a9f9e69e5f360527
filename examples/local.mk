# examples/ - sources, headers and tests of this folder
# The embedded model and the text-to-SQL rows of quickstart and the tests.
EXTRA_DIST += %D%/Containerfile %D%/walk.sh %D%/llama_cpp_answer.py \
  %D%/sql/README.md %D%/sql/make_sql.py \
  %D%/sql/train.jsonl %D%/sql/valid.jsonl %D%/tiny-mistral3/README.md \
  %D%/tiny-mistral3/chat_template.jinja %D%/tiny-mistral3/config.json \
  %D%/tiny-mistral3/expected.json %D%/tiny-mistral3/generation_config.json \
  %D%/tiny-mistral3/model.safetensors \
  %D%/tiny-mistral3/special_tokens_map.json %D%/tiny-mistral3/tekken.json \
  %D%/tiny-mistral3/tokenizer.json %D%/tiny-mistral3/tokenizer_config.json \
  %D%/tiny-mistral3/valid.txt
