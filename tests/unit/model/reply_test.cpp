#include "krul/model/reply.hpp"

#include <doctest/doctest.h>

namespace krul {
namespace {

/// A model of five tokens that says 1, 2, 3, 4, and 0 to end its turn.
struct Counting {
  std::vector<float> logits = {0, 1, 0, 0, 0};
  std::vector<Token> shown;
  bool interrupted = false, writable = true;
  Status room;

  Result<Reply> say(std::size_t most) {
    return sample_reply({}, most, logits,
                        {.ends = [](Token token) { return token == 0; },
                         .next =
                             [this](Token token) {
                               logits.assign(5, 0);
                               logits[static_cast<std::size_t>(token + 1) % 5] = 1;
                               return token == 3 ? room : Status{};
                             },
                         .show =
                             [this](Token token) {
                               shown.push_back(token);
                               return writable;
                             },
                         .interrupted = [this] { return interrupted && shown.size() == 2; }});
  }
};

TEST_CASE("a reply ends with the model's turn, which is no part of it") {
  Counting model;
  const auto reply = model.say(100);
  REQUIRE(reply);
  CHECK(reply->tokens == std::vector<Token>{1, 2, 3, 4});
  CHECK(model.shown == reply->tokens);
  CHECK(reply->end == 0);
  CHECK(name(reply->ended) == "stop");
  CHECK(reply->last_was_run);
}

TEST_CASE("a reply that is cut says why, and whether its last token was run") {
  struct Case {
    Counting model;
    std::size_t most, tokens;
    const char* ended;
    bool last_was_run;
  };
  Case cases[] = {{{}, 2, 2, "length", false},
                  {{}, 9, 2, "interrupted", true},
                  {{}, 9, 1, "output", false},
                  {{}, 9, 3, "context", false}};
  cases[1].model.interrupted = true;
  cases[2].model.writable = false;
  cases[3].model.room = fail(ErrorCode::too_large, "full");
  for (auto& [model, most, tokens, ended, last_was_run] : cases) {
    const auto& expected = ended;
    CAPTURE(expected);
    const auto reply = model.say(most);
    REQUIRE(reply);
    CHECK(reply->tokens.size() == tokens);
    CHECK_FALSE(reply->end);
    CHECK(name(reply->ended) == ended);
    CHECK(reply->last_was_run == last_was_run);
  }
}

TEST_CASE("what else a step fails with is the reply's error") {
  Counting model;
  model.room = fail(ErrorCode::io, "broken");
  const auto reply = model.say(9);
  REQUIRE_FALSE(reply);
  CHECK(reply.error().code == ErrorCode::io);
}

}  // namespace
}  // namespace krul
