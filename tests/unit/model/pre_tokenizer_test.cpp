#include "krul/model/pre_tokenizer.hpp"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "support/tokenizer_vectors.hpp"

using namespace krul;

namespace {

constexpr PreTokenizer all[] = {PreTokenizer::smollm, PreTokenizer::qwen2, PreTokenizer::gpt2, PreTokenizer::llama_bpe};

std::vector<std::string> pieces(PreTokenizer kind, std::string_view text) {
  std::vector<std::string> found;
  for_each_piece(kind, text, [&](std::string_view piece) { found.emplace_back(piece); });
  return found;
}

using Pieces = std::vector<std::string>;

}  // namespace

TEST_CASE("names go both ways, and an unknown one is answered with the known ones") {
  for (const auto kind : all) CHECK(pre_tokenizer_named(name(kind)) == kind);
  const auto unknown = pre_tokenizer_named("deepseek-llm");
  REQUIRE(!unknown);
  CHECK(unknown.error().code == ErrorCode::unsupported);
  CHECK(unknown.error().message ==
        "pre-tokenizer \"deepseek-llm\" is not supported: use a model with one of smollm, qwen2, gpt-2, llama-bpe");
}

TEST_CASE("pieces are those of the tokenizers package") {
  const auto texts = testing::vector_texts();
  CHECK(texts.size() >= 2500);
  for (const auto kind : all) {
    CAPTURE(name(kind));
    const auto lines = testing::vector_lines("pieces_" + std::string(name(kind)));
    REQUIRE(lines.size() == texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i) {
      std::vector<std::size_t> lengths;
      for_each_piece(kind, texts[i], [&](std::string_view piece) { lengths.push_back(piece.size()); });
      CAPTURE(texts[i]);
      CHECK(lengths == testing::piece_lengths(lines[i]));
    }
  }
}

TEST_CASE("each family cuts numbers, contractions and blanks its own way") {
  CHECK(pieces(PreTokenizer::smollm, "It's 1234  x") == Pieces{"It", "'s", " ", "1", "2", "3", "4", " ", " x"});
  CHECK(pieces(PreTokenizer::gpt2, "It's 1234  x") == Pieces{"It", "'s", " 1234", " ", " x"});
  CHECK(pieces(PreTokenizer::qwen2, "It'S 1234\t\tx") == Pieces{"It", "'S", " ", "1", "2", "3", "4", "\t", "\tx"});
  CHECK(pieces(PreTokenizer::llama_bpe, "It'S 1234\n x") == Pieces{"It", "'S", " ", "123", "4", "\n", " x"});
  CHECK(pieces(PreTokenizer::gpt2, "It'S") == Pieces{"It", "'", "S"});
}

TEST_CASE("before a number, smollm cuts blanks as if the text ended") {
  CHECK(pieces(PreTokenizer::smollm, "a   1") == Pieces{"a", "   ", "1"});
  CHECK(pieces(PreTokenizer::gpt2, "a   1") == Pieces{"a", "  ", " 1"});
}

TEST_CASE("a byte of malformed UTF-8 is a symbol") {
  CHECK(pieces(PreTokenizer::gpt2, "a\xff\xfe!b") == Pieces{"a", "\xff\xfe!", "b"});
  CHECK(pieces(PreTokenizer::qwen2, "\xe2\x82") == Pieces{"\xe2\x82"});                     // a cut character
  CHECK(pieces(PreTokenizer::gpt2, "x\xed\xa0\x80y") == Pieces{"x", "\xed\xa0\x80", "y"});  // a surrogate
  CHECK(pieces(PreTokenizer::gpt2, "x\xc1\x81y") == Pieces{"x", "\xc1\x81", "y"});          // an overlong A
}

TEST_CASE("random bytes: no piece is empty and together they are the text") {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string text(random() % 64, '\0');
    for (auto& c : text) c = static_cast<char>(random() % 2 ? random() : " \n\r'slT09"[random() % 10]);
    for (const auto kind : all) {
      std::string together;
      for (const auto& piece : pieces(kind, text)) {
        REQUIRE(!piece.empty());
        together += piece;
      }
      REQUIRE(together == text);
    }
  }
}

TEST_CASE("the empty text has no piece") {
  for (const auto kind : all) {
    CHECK(first_piece(kind, "") == 0);
    CHECK(pieces(kind, "").empty());
  }
}
