#include "krul/model/write_texts.hpp"

#include <doctest/doctest.h>

#include <numeric>

#include "../../../examples/02_your_own_backend/toy_backend.hpp"
#include "krul/model/model_chat.hpp"
#include "support/tiny_model.hpp"

using namespace krul;

namespace {

constexpr Token end = 7;
const TurnMarks marks{[](Token token) { return token == end; }, {end, 40, 41}, {end, 50, 51}};
const std::vector<Opening> openings{{{1, 2, 3}, false}, {{4, 5}, true}, {{6}, false}};
constexpr WritingSettings small{.tokens = 600, .text = 60, .at_once = 4};

std::vector<std::vector<Token>> written(const WritingSettings& settings, std::span<const Opening> from = openings) {
  toy::Backend model;
  Workers workers(2);
  return write_texts(model, {from, marks}, workers, settings);
}

std::size_t total(const std::vector<std::vector<Token>>& texts) {
  return std::accumulate(texts.begin(), texts.end(), std::size_t{0},
                         [](std::size_t sum, const auto& text) { return sum + text.size(); });
}

}  // namespace

TEST_CASE("texts begin with their openings, in turns, and are as long as was asked for") {
  const auto texts = written(small);
  REQUIRE(texts.size() > openings.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto& opening = openings[i % openings.size()].tokens;
    REQUIRE(texts[i].size() >= opening.size());
    CHECK(std::equal(opening.begin(), opening.end(), texts[i].begin()));
    CHECK(texts[i].size() <= small.text);
  }
  CHECK(total(texts) >= small.tokens);
  CHECK(total(texts) < small.tokens + small.at_once * 4);
}

TEST_CASE("the same seed gives the same texts, another one others, and neighbours change nothing") {
  const auto texts = written(small);
  CHECK(written(small) == texts);
  auto other = small;
  other.sampling.seed = 1000;
  CHECK(written(other) != texts);
  other = small;
  other.at_once = 1;
  const auto alone = written(other);
  // What is not cut short by the end is the same.
  for (std::size_t i = 0; i + 1 < alone.size() && i + small.at_once < texts.size(); ++i) CHECK(alone[i] == texts[i]);
}

TEST_CASE("after a turn's end the other side speaks") {
  std::size_t ends = 0;
  const auto texts = written(small);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto& opening = openings[i % openings.size()];
    bool user_speaks = opening.user_speaks;
    const std::span<const Token> text(texts[i]);
    for (std::size_t at = opening.tokens.size(); at < text.size(); ++at) {
      if (text[at] != end) continue;
      user_speaks = !user_speaks;
      const auto& mark = user_speaks ? marks.to_user : marks.to_assistant;
      const auto follows = text.subspan(at, std::min(mark.size(), text.size() - at));
      CHECK(std::equal(follows.begin(), follows.end(), mark.begin()));
      ++ends;
    }
  }
  CHECK(ends > 0);
}

TEST_CASE("a text that repeats itself is over, and what repeats is dropped") {
  auto greedy_ones = small;
  greedy_ones.sampling = {.temperature = 0};
  greedy_ones.text = 400;
  greedy_ones.tokens = 2000;
  std::size_t over = 0;
  const auto texts = written(greedy_ones);
  for (const auto& text : texts) {
    CHECK(repeated_tail(text) == 0);
    over += text.size() < greedy_ones.text ? 1 : 0;
  }
  CHECK(over > greedy_ones.at_once);
}

TEST_CASE("openings that are too long are cut, and caches take no more room than is given") {
  std::vector<Opening> long_one(1);
  long_one[0].tokens.assign(100, 9);
  std::iota(long_one[0].tokens.begin(), long_one[0].tokens.begin() + 60, 0);
  auto settings = small;
  settings.tokens = 130;
  settings.cache_bytes = 1;
  const auto texts = written(settings, long_one);
  CHECK(texts.size() == 3);
  CHECK(texts[0].size() == settings.text);
  CHECK(std::equal(texts[0].begin(), texts[0].end() - 1, long_one[0].tokens.begin()));
}

TEST_CASE("a model's own marks are those of its chat format") {
  const auto bytes = krul::testing::tiny_model();
  const auto file = GgufFile::from_memory(bytes, "tiny.gguf").value();
  auto tokenizer = Tokenizer::from_gguf(file).value();
  const ChatFormat chat = chat_format_of(file, tokenizer).value();
  const TurnMarks own = TurnMarks::of(tokenizer, chat);
  const auto encode = [&](std::string_view text) { return tokenizer.encode(text, Tokenizer::Special::parse); };
  const std::vector<Message> messages{{"user", "a"}, {"assistant", "b"}, {"user", "c"}};
  auto tokens = encode("<|im_start|>user\na");
  REQUIRE(own.ends(encode("<|im_end|>")[0]));
  for (const auto* more : {&own.to_assistant, &own.to_user}) {
    tokens.insert(tokens.end(), more->begin(), more->end());
    const auto content = encode(more == &own.to_assistant ? "b" : "c<|im_end|>\n");
    tokens.insert(tokens.end(), content.begin(), content.end());
  }
  CHECK(tokens == tokenizer.encode(chat.render(messages, false).value()));
  CHECK(!own.ends(encode("a")[0]));
}

TEST_CASE("what cannot be written is refused") {
  CHECK_THROWS_AS((void)written(small, {}), PreconditionError);
  CHECK_THROWS_AS((void)written(small, std::vector<Opening>{{{}, false}}), PreconditionError);
  auto settings = small;
  settings.text = 1;
  CHECK_THROWS_AS((void)written(settings), PreconditionError);
  settings = small;
  settings.at_once = 0;
  CHECK_THROWS_AS((void)written(settings), PreconditionError);
}
