// Damaged model files: the reader, the description of the model and its weights, and all that concerns text: tokenizer
// and chat template. None of it may take more memory than the file's size explains.
#include "fuzz_target.hpp"
#include "krul/model/decoder_file.hpp"
#include "krul/model/gguf.hpp"
#include "krul/model/model_chat.hpp"
#include "support/gguf_writer.hpp"
#include "support/tiny_model.hpp"

namespace krul::fuzz {
namespace {

void read_text_of(const GgufFile& file) {
  auto tokenizer = Tokenizer::from_gguf(file);
  if (!accepted(tokenizer)) return;
  require(tokenizer->size() > 0, "a vocabulary is empty");
  const auto tokens = tokenizer->encode("the man <|im_start|> 7\n", Tokenizer::Special::parse);
  for (const Token token : tokens)
    require(token >= 0 && static_cast<std::size_t>(token) < tokenizer->size(), "a token is not in the vocabulary");
  (void)tokenizer->decode(tokens);
  const auto chat = chat_format_of(file, *tokenizer);
  if (!accepted(chat)) return;
  (void)turn_end(*tokenizer, *chat);
  if (const auto text = chat->render(std::vector<Message>{{"user", "the"}}, true); accepted(text))
    (void)encode_conversation(*tokenizer, *text);
}

void read_decoder_of(const GgufFile& file) {
  const auto decoder = DecoderFile::read(file, ElementType::f16);
  if (!accepted(decoder)) return;
  require(decoder->layers.size() == decoder->geometry.layers && decoder->embedding && decoder->output,
          "a model lacks what it must have");
  std::vector<float> row(decoder->embedding->shape[0]);
  accepted(read_finite_rows(file, *decoder->embedding, decoder->geometry.vocabulary - 1, row));
  for (const auto& layer : decoder->layers) {
    row.resize(layer.down->shape[0]);
    accepted(read_finite_rows(file, *layer.down, decoder->geometry.hidden - 1, row));
  }
}

void read_gguf(std::span<const std::byte> input) {
  const Bytes exact(input.begin(), input.end());
  const auto file = GgufFile::from_memory(exact, "fuzzed");
  if (!accepted(file)) return require(file.error().message.starts_with("fuzzed "), "an error does not name the file");
  for (const auto key : file->keys()) {
    accepted(file->unsigned_value(key));
    accepted(file->real_value(key));
    accepted(file->bool_value(key));
    accepted(file->string_value(key));
    accepted(file->string_array(key));
    accepted(file->integer_array(key));
  }
  for (const auto& tensor : file->tensors()) {
    require(tensor.values() <= 2 * exact.size(), "a tensor is larger than its file");
    std::vector<float> values(tensor.values());
    require(dequantize(tensor.type, tensor.data, values).has_value(), "a tensor cannot be read");
  }
  read_decoder_of(*file);
  read_text_of(*file);
}

std::vector<Bytes> gguf_seeds() {
  testing::GgufWriter small(64);
  small.set("integers", std::vector<std::int16_t>{1, -2});
  small.set("texts", std::vector<std::string>{"a", ""});
  small.set("flag", true);
  small.set("real", 0.5);
  small.add_tensor("t", {32}, GgufType::q4_1, std::span<const float>(std::vector<float>(32, 1.0F)));
  return {testing::tiny_model({.layers = 1, .hidden = 32, .ffn = 32, .vocabulary = 300, .weights = GgufType::q8_0}),
          testing::tiny_model({.architecture = "qwen2",
                               .layers = 1,
                               .hidden = 32,
                               .ffn = 32,
                               .vocabulary = 300,
                               .weights = GgufType::q4_1}),
          small.bytes()};
}

}  // namespace

Target gguf_target() {
  return {"gguf", read_gguf, gguf_seeds};
}

}  // namespace krul::fuzz
