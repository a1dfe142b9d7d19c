#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "krul/model/model_chat.hpp"
#include "krul/model/tokenizer.hpp"
#include "support/tokenizer_vectors.hpp"

using namespace krul;

namespace {

struct RealModel {
  const char* file;
  const char* pre_tokenizer;
  const char* hash;
  const char* default_system;
};

constexpr RealModel models[] = {
    {"SmolLM2-135M-Instruct.Q4_1.gguf", "smollm", "b896a1b0c7f5242c3f66c4e565f2a1e7",
     "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
    {"Qwen2.5-Coder-0.5B-Instruct.gguf", "qwen2", "6be356f02a0370c8240d7d77421af3e7",
     "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
};

/// The model's file in the folder that KRUL_MODELS names; nothing, and a message, if it is not there.
std::optional<GgufFile> open(const RealModel& model) {
  const char* folder = std::getenv("KRUL_MODELS");
  if (folder == nullptr || !std::filesystem::exists(std::filesystem::path(folder) / model.file)) {
    MESSAGE("skipped: set KRUL_MODELS to a folder with ", std::string(model.file));
    return std::nullopt;
  }
  auto file = GgufFile::open(std::filesystem::path(folder) / model.file);
  REQUIRE(file);
  return std::move(*file);
}

Tokenizer tokenizer_of(const GgufFile& file) {
  auto tokenizer = Tokenizer::from_gguf(file);
  REQUIRE_MESSAGE(tokenizer, (tokenizer ? "" : tokenizer.error().message));
  return std::move(*tokenizer);
}

}  // namespace

TEST_CASE("tokens of real models are those of the tokenizers package") {
  const auto texts = testing::vector_texts();
  CHECK(texts.size() >= 2500);
  for (const auto& model : models) {
    const auto file = open(model);
    if (!file) continue;
    CAPTURE(model.file);
    const auto tokenizer = tokenizer_of(*file);
    const auto lines = testing::vector_lines(std::string("tokens_") + model.pre_tokenizer);
    REQUIRE(lines.size() == texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i) {
      CAPTURE(texts[i]);
      const auto expected = testing::expected_tokens(lines[i]);
      CHECK(tokenizer.encode(texts[i], Tokenizer::Special::as_text) == expected.as_text);
      CHECK(tokenizer.encode(texts[i], Tokenizer::Special::parse) == expected.parsed);
    }
  }
}

TEST_CASE("bytes that have tokens come back from real models") {
  for (const auto& model : models) {
    const auto file = open(model);
    if (!file) continue;
    CAPTURE(model.file);
    const auto tokenizer = tokenizer_of(*file);
    std::mt19937 random(17);
    for (int round = 0; round < 3000; ++round) {
      std::string text(random() % 60, '\0');
      for (auto& c : text) c = static_cast<char>(random());
      std::erase_if(text, [&](char c) { return !tokenizer.has_token(static_cast<unsigned char>(c)); });
      REQUIRE(tokenizer.decode(tokenizer.encode(text)) == text);
    }
    for (const auto& text : testing::vector_texts()) {
      std::string kept = text;
      std::erase_if(kept, [&](char c) { return !tokenizer.has_token(static_cast<unsigned char>(c)); });
      CHECK(tokenizer.decode(tokenizer.encode(text, Tokenizer::Special::parse)) == kept);
    }
  }
}

TEST_CASE("real vocabularies are recognised again by their hash, and know what ends a turn") {
  for (const auto& model : models) {
    const auto file = open(model);
    if (!file) continue;
    CAPTURE(model.file);
    const auto tokenizer = tokenizer_of(*file);
    CHECK(tokenizer.hash() == model.hash);
    for (const char* name : {"<|im_end|>", "<|endoftext|>"}) CHECK(tokenizer.ends_turn(*tokenizer.special(name)));
    CHECK(!tokenizer.ends_turn(*tokenizer.special("<|im_start|>")));
  }
}

TEST_CASE("real chat templates: their default system message, then each message") {
  const std::vector<Message> talk = {{"user", "Hello"}, {"assistant", "Hi!"}, {"system", "Be short."}};
  const std::vector<Message> own = {{"system", "Be short."}, {"user", "Hello"}};
  for (const auto& model : models) {
    const auto file = open(model);
    if (!file) continue;
    CAPTURE(model.file);
    auto tokenizer = Tokenizer::from_gguf(*file).value();
    const auto format = chat_format_of(*file, tokenizer);
    REQUIRE_MESSAGE(format, (format ? "" : format.error().message));
    CHECK(format->begin == "<|im_start|>system\n" + std::string(model.default_system) + "<|im_end|>\n");
    CHECK(format->render(talk, true)->text() ==
          "<|im_start|>system\n" + std::string(model.default_system) +
              "<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi!<|im_end|>\n"
              "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>assistant\n");
    CHECK(format->render(own, false)->text() ==
          "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n");
  }
}
