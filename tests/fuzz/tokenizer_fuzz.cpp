// Any bytes as text: what is encoded comes back, and is the same text whole or quoted.
#include "fuzz_target.hpp"
#include "krul/model/tokenizer.hpp"
#include "support/tiny_model.hpp"

namespace krul::fuzz {
namespace {

/// A small vocabulary under each pre-tokenizer.
const std::vector<Tokenizer>& tokenizers() {
  static const std::vector<Tokenizer> all = [] {
    std::vector<Tokenizer> made;
    for (const char* name : {"gpt-2", "smollm", "qwen2", "llama-bpe"}) {
      const auto words = testing::tiny_vocabulary(300, std::string_view(name) == "smollm");
      Vocabulary vocabulary;
      vocabulary.pre_tokenizer = name;
      vocabulary.tokens.assign(words.tokens.begin(), words.tokens.end());
      vocabulary.kinds.assign(words.types.begin(), words.types.end());
      vocabulary.merges.assign(words.merges.begin(), words.merges.end());
      made.push_back(Tokenizer::from_vocabulary(vocabulary).value());
    }
    return made;
  }();
  return all;
}

void read_text_bytes(std::span<const std::byte> bytes) {
  Input input(bytes);
  const Tokenizer& tokenizer = tokenizers()[input.byte() % tokenizers().size()];
  const std::string text(as_text(input.rest()));
  for (const auto special : {Tokenizer::Special::as_text, Tokenizer::Special::parse}) {
    const auto tokens = tokenizer.encode(text, special);
    require(tokens.size() <= text.size(), "there are more tokens than bytes");
    require(tokenizer.decode(tokens) == text, "a text does not come back");
    require(tokenizer.texts_hash(tokens).size() == 32 || text.empty(), "tokens have no hash");
  }
  const auto quoted = tokenizer.encode(RenderedText().write("<|im_start|>").quote(text).write("<|im_end|>"));
  require(quoted.size() >= 2 && tokenizer.decode(quoted) == "<|im_start|>" + text + "<|im_end|>",
          "a quoted text does not come back");
  for (std::size_t i = 1; i + 1 < quoted.size(); ++i)
    require(tokenizer.special("<|im_start|>") != quoted[i], "a quoted text has become a control token");
  (void)tokenizer.first_special(text);
  (void)tokenizer.special(text);
}

std::vector<Bytes> tokenizer_seeds() {
  std::vector<Bytes> seeds;
  for (unsigned which = 0; which < 4; ++which) {
    seeds.push_back(joined({which}, "the man's in  there,\r\n\t 1234 <|im_start|>user\n<tool_call>It's"));
    seeds.push_back(
        joined({which}, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xcc\x81\xff\xed\xa0\x80\xf5 \xd9\xa3\xe4\xb8\xad"));
  }
  return seeds;
}

}  // namespace

Target tokenizer_target() {
  return {"tokenizer", read_text_bytes, tokenizer_seeds};
}

}  // namespace krul::fuzz
