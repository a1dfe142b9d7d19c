#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"
#include "support/gguf_writer.hpp"

namespace krul::testing {

/// What a tiny random model looks like. Sizes that are coded in blocks (hidden, ffn) are multiples of 32.
struct TinyModel {
  std::string architecture = "llama";  ///< or "qwen2"
  std::uint32_t layers = 2;
  std::uint32_t hidden = 64;  ///< heads * size of a head
  std::uint32_t heads = 4;    ///< a multiple of kv_heads
  std::uint32_t kv_heads = 2;
  std::uint32_t ffn = 96;
  std::uint32_t vocabulary = 320;  ///< >= 300
  std::uint32_t context = 1024;
  bool tied = true;                  ///< no output.weight: the embedding serves as output, too
  GgufType weights = GgufType::f32;  ///< of the matrices: f32, f16, bf16, q8_0 or q4_1
  std::uint64_t seed = 1;
  std::string biases = {};                ///< of attention, "qkv" or a part of it; qwen2 has all of them in any case
  std::uint32_t rows_to_spare = 0;        ///< rows of the embedding that no token has
  std::vector<std::string> control = {};  ///< names of further control tokens
  std::optional<std::string> chat_template = {};      ///< none: ChatML's; "": the file has none
  std::optional<bool> add_bos = false, add_eos = {};  ///< none: the file does not say
  std::string pre_tokenizer = {};                     ///< empty: the one of the architecture
  bool ends = true;                                   ///< false: a token that ends replies is never the most likely one
};

/// A byte-level BPE vocabulary as real files carry it.
struct TinyVocabulary {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;  ///< 1 normal, 3 control, 4 user-defined, 5 unused
  std::vector<std::string> merges;  ///< "left right", the first has priority
  std::uint32_t end_of_text = 0;    ///< "<|endoftext|>"
  std::uint32_t turn_begin = 0;     ///< "<|im_start|>"
  std::uint32_t turn_end = 0;       ///< "<|im_end|>"
};

[[nodiscard]] constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/// The letter that stands for a byte in a byte-level vocabulary, in UTF-8: printable Latin-1 stands for itself, the
/// others follow from U+0100 on in their order.
[[nodiscard]] inline std::string byte_letter(unsigned byte) {
  unsigned code = byte;
  if (!stands_for_itself(byte)) {
    code = 0x100;
    for (unsigned before = 0; before < byte; ++before) code += stands_for_itself(before) ? 0 : 1;
  }
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
}

/// 256 bytes, some merges of English pairs, three special tokens: in front as SmolLM2 has them, or behind the merges
/// as Qwen2 does, with a user-defined one; then padding up to `size`.
/// @throws PreconditionError if size < 300
[[nodiscard]] inline TinyVocabulary tiny_vocabulary(std::size_t size, bool special_first) {
  expects(size >= 300, "tiny_vocabulary: at least 300 tokens");
  const std::string space = byte_letter(' ');
  constexpr std::string_view pairs[] = {"_ t", "_ a", "i n",  "h e", "_ _",  "r e",  "o n",  "_t he", "e r",
                                        "_ s", "a t", "_ w",  "_ o", "e n",  "_ c",  "i t",  "i s",   "a n",
                                        "o r", "e s", "_ b",  "e d", "_ f",  "in g", "_ p",  "o u",   "_a n",
                                        "a l", "a r", "_t o", "_ m", "_o f", "_ in", "_an d"};
  TinyVocabulary vocabulary;
  const auto add = [&](std::string token, std::int32_t type) {
    vocabulary.tokens.push_back(std::move(token));
    vocabulary.types.push_back(type);
    return static_cast<std::uint32_t>(vocabulary.tokens.size() - 1);
  };
  const auto add_special = [&] {
    vocabulary.end_of_text = add("<|endoftext|>", 3);
    vocabulary.turn_begin = add("<|im_start|>", 3);
    vocabulary.turn_end = add("<|im_end|>", 3);
  };

  if (special_first) add_special();
  for (const bool itself : {true, false})
    for (unsigned byte = 0; byte < 256; ++byte)
      if (stands_for_itself(byte) == itself) add(byte_letter(byte), 1);
  for (const auto pair : pairs) {
    std::string merge;
    for (const char letter : pair) merge += letter == '_' ? space : std::string(1, letter);
    const auto gap = merge.find(' ');
    add(merge.substr(0, gap) + merge.substr(gap + 1), 1);
    vocabulary.merges.push_back(std::move(merge));
  }
  if (!special_first) {
    add_special();
    add("<tool_call>", 4);
  }
  while (vocabulary.tokens.size() < size) add("[PAD" + std::to_string(vocabulary.tokens.size()) + "]", 5);
  return vocabulary;
}

/// A whole model file with random weights: the same keys and tensors as the real files of its architecture. Matrices
/// have a standard deviation of 1 / sqrt(columns) and norms lie near 1, so that activations stay near 1. The same
/// options give the same bytes on every machine.
/// @throws PreconditionError for options that no model can have
[[nodiscard]] inline GgufWriter tiny_model_writer(const TinyModel& options = {}) {
  const bool llama = options.architecture == "llama";
  expects(llama || options.architecture == "qwen2", "tiny_model: the architecture is llama or qwen2");
  expects(options.kv_heads > 0 && options.heads % options.kv_heads == 0 && options.hidden % options.heads == 0,
          "tiny_model: heads divide hidden, kv_heads divide heads");
  const std::uint32_t head = options.hidden / options.heads;
  auto vocabulary = tiny_vocabulary(options.vocabulary, llama);
  for (std::size_t i = 0; i < options.control.size(); ++i) {  // in the place of padding
    vocabulary.tokens[options.vocabulary - 1 - i] = options.control[i];
    vocabulary.types[options.vocabulary - 1 - i] = 3;
  }

  GgufWriter file;
  const auto file_type = [&]() -> std::uint32_t {
    switch (options.weights) {
      case GgufType::f16:
        return 1;
      case GgufType::q4_1:
        return 3;
      case GgufType::q8_0:
        return 7;
      case GgufType::bf16:
        return 32;
      default:
        return 0;
    }
  };
  const std::string prefix = options.architecture + ".";
  file.set("general.architecture", options.architecture);
  file.set("general.type", std::string("model"));
  file.set("general.name", "Tiny " + options.architecture);
  file.set("general.languages", std::vector<std::string>{"en"});
  file.set(prefix + "block_count", options.layers);
  file.set(prefix + "context_length", options.context);
  file.set(prefix + "embedding_length", options.hidden);
  file.set(prefix + "feed_forward_length", options.ffn);
  file.set(prefix + "attention.head_count", options.heads);
  file.set(prefix + "attention.head_count_kv", options.kv_heads);
  file.set(prefix + "rope.freq_base", llama ? 100000.0F : 1000000.0F);
  file.set(prefix + "attention.layer_norm_rms_epsilon", llama ? 1e-5F : 1e-6F);
  file.set("general.file_type", file_type());
  if (llama) {
    file.set(prefix + "vocab_size", options.vocabulary);
    file.set(prefix + "rope.dimension_count", head);
    file.set("tokenizer.ggml.add_space_prefix", false);
  }
  if (options.add_bos) file.set("tokenizer.ggml.add_bos_token", *options.add_bos);
  if (options.add_eos) file.set("tokenizer.ggml.add_eos_token", *options.add_eos);
  file.set("tokenizer.ggml.model", std::string("gpt2"));
  file.set("tokenizer.ggml.pre",
           options.pre_tokenizer.empty() ? std::string(llama ? "smollm" : "qwen2") : options.pre_tokenizer);
  file.set("tokenizer.ggml.tokens", vocabulary.tokens);
  file.set("tokenizer.ggml.token_type", vocabulary.types);
  file.set("tokenizer.ggml.merges", vocabulary.merges);
  file.set("tokenizer.ggml.bos_token_id", llama ? vocabulary.turn_begin : vocabulary.end_of_text);
  file.set("tokenizer.ggml.eos_token_id", vocabulary.turn_end);
  if (llama) file.set("tokenizer.ggml.unknown_token_id", vocabulary.end_of_text);
  file.set("tokenizer.ggml.padding_token_id", llama ? vocabulary.turn_end : vocabulary.end_of_text);
  const auto chat_template = options.chat_template.value_or(
      std::string("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
                  "+ '<|im_end|>\\n' }}{% endfor %}"
                  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"));
  if (!chat_template.empty()) file.set("tokenizer.chat_template", chat_template);
  file.set("general.quantization_version", std::uint32_t{2});

  std::mt19937_64 random(options.seed);
  const auto uniform = [&](double center, double deviation) {
    const double unit = static_cast<double>(random() >> 11) * 0x1p-53;  // [0, 1)
    return static_cast<float>(center + deviation * std::sqrt(12.0) * (unit - 0.5));
  };
  const auto add_matrix = [&](const std::string& name, std::uint64_t columns, std::uint64_t rows, GgufType type) {
    std::vector<float> values(columns * rows);
    for (auto& value : values) value = uniform(0, 1 / std::sqrt(static_cast<double>(columns)));
    if (!options.ends && (name == "output.weight" || name == "token_embd.weight"))
      for (const std::uint32_t token : {vocabulary.turn_end, vocabulary.end_of_text})
        std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(token * columns), columns, 0.0F);
    file.add_tensor(name, {columns, rows}, type, std::span<const float>(values));
  };
  const auto add_vector = [&](const std::string& name, std::uint64_t size, double center) {
    std::vector<float> values(size);
    for (auto& value : values) value = uniform(center, 0.1);
    file.add_tensor(name, {size}, GgufType::f32, std::span<const float>(values));
  };

  // Files of 4-bit matrices keep their embedding in 8 bits.
  const auto embedding_type = options.weights == GgufType::q4_1 ? GgufType::q8_0 : options.weights;
  const std::uint64_t kv_rows = std::uint64_t{options.kv_heads} * head;
  const std::uint64_t rows = std::uint64_t{options.vocabulary} + options.rows_to_spare;
  if (!options.tied) add_matrix("output.weight", options.hidden, rows, embedding_type);
  add_matrix("token_embd.weight", options.hidden, rows, embedding_type);
  for (std::uint32_t layer = 0; layer < options.layers; ++layer) {
    const std::string block = "blk." + std::to_string(layer) + ".";
    add_vector(block + "attn_norm.weight", options.hidden, 1);
    add_matrix(block + "ffn_down.weight", options.ffn, options.hidden, options.weights);
    add_matrix(block + "ffn_gate.weight", options.hidden, options.ffn, options.weights);
    add_matrix(block + "ffn_up.weight", options.hidden, options.ffn, options.weights);
    add_vector(block + "ffn_norm.weight", options.hidden, 1);
    add_matrix(block + "attn_k.weight", options.hidden, kv_rows, options.weights);
    add_matrix(block + "attn_output.weight", options.hidden, options.hidden, options.weights);
    add_matrix(block + "attn_q.weight", options.hidden, options.hidden, options.weights);
    add_matrix(block + "attn_v.weight", options.hidden, kv_rows, options.weights);
    for (const char part : {'k', 'q', 'v'})
      if (!llama || options.biases.find(part) != std::string::npos)
        add_vector(block + "attn_" + part + ".bias", part == 'q' ? options.hidden : kv_rows, 0);
  }
  add_vector("output_norm.weight", options.hidden, 1);
  return file;
}
[[nodiscard]] inline std::vector<std::byte> tiny_model(const TinyModel& options = {}) {
  return tiny_model_writer(options).bytes();
}

}  // namespace krul::testing
