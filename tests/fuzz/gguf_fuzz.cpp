// Feeds damaged model files to the reader. Not part of the default build; from the root of the repository:
//
//   clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -Iinclude -Itests
//       tests/fuzz/gguf_fuzz.cpp src/model/gguf.cpp src/model/dequantize.cpp -o build/gguf_fuzz
//   mkdir -p build/gguf_corpus && build/gguf_fuzz --seed build/gguf_corpus
//   build/gguf_fuzz -max_total_time=60 -rss_limit_mb=512 build/gguf_corpus
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "krul/model/gguf.hpp"
#include "support/gguf_writer.hpp"
#include "support/tiny_model.hpp"

namespace {

/// What a fuzzer would hardly find by itself: whole files.
void write_seeds(const std::filesystem::path& folder) {
  using namespace krul::testing;
  write_file(folder / "llama", tiny_model({.layers = 1, .hidden = 32, .ffn = 32, .vocabulary = 300}));
  GgufWriter small(64);
  small.set("integers", std::vector<std::int16_t>{1, -2});
  small.set("texts", std::vector<std::string>{"a", ""});
  small.set("flag", true);
  small.set("real", 0.5);
  small.add_tensor("t", {32}, krul::GgufType::q4_1, std::span<const float>(std::vector<float>(32, 1.0F)));
  write_file(folder / "small", small.bytes());
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  if (*count == 3 && std::string((*arguments)[1]) == "--seed") {
    write_seeds((*arguments)[2]);
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = krul::GgufFile::from_memory(std::as_bytes(std::span(data, size)), "fuzzed");
  if (!file) {
    if (!file.error().message.starts_with("fuzzed ")) std::abort();
    return 0;
  }
  for (const char* key : {"integers", "texts", "flag", "real", "general.alignment", "general.architecture",
                          "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"}) {
    (void)file->unsigned_value(key);
    (void)file->real_value(key);
    (void)file->bool_value(key);
    (void)file->string_value(key);
    (void)file->string_array(key);
    (void)file->integer_array(key);
  }
  for (const auto& tensor : file->tensors()) {
    if (tensor.values() > size * 2) std::abort();
    std::vector<float> values(tensor.values());
    if (!krul::dequantize(tensor.type, tensor.data, values)) std::abort();
  }
  return 0;
}
