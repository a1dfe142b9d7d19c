#include "krul/chat/chat_session.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>

#include "krul/compress/exact_codec.hpp"
#include "krul/cpu_conversation.hpp"
#include "krul/store/faulty_store.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "support/temporary_directory.hpp"
#include "support/tiny_model.hpp"

namespace krul {
namespace {

/// A tiny model, and a conversation with it that is kept in memory as it was computed.
struct Chatting {
  using Session = ChatSession<CpuModel, AnyStore>;

  test::TemporaryDirectory directory;
  LoadedModel model;
  FaultyStore<MemoryStore> memory{MemoryStore{}};
  AnyStore store = memory;

  explicit Chatting(std::size_t context = 0) : model(loaded(directory.path() / "tiny.gguf", context)) {}

  static LoadedModel loaded(const std::filesystem::path& file, std::size_t context) {
    const auto bytes = testing::tiny_model({.ends = false});
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return load_model(file, {.threads = 1, .context = context}).value();
  }
  Session open(ChatSettings settings = {.most_tokens = 8}) {
    auto conversation = open_conversation(model.backend, store, "a talk", strategy::load(ExactCodec{}));
    return {model.backend, std::move(*conversation), model.tokenizer, *model.chat, settings};
  }
};

TEST_CASE("a dialogue that is opened anew goes on as one that never stopped") {
  Chatting chatting;
  const char* const messages[] = {"Tell me about the garden.", "Which bed was it?", "And the beans?"};
  std::vector<std::string> replies;
  {
    auto live = chatting.open();
    for (const char* message : messages) {
      const auto reply = live.take_turn(message).value();
      CHECK(reply.ended == Ended::length);
      CHECK_FALSE(reply.not_saved);
      replies.push_back(reply.text);
    }
    REQUIRE(live.conversation().finish_save());
  }
  Chatting again;
  for (std::size_t i = 0; i < replies.size(); ++i) {
    auto opened = again.open();
    const auto reply = opened.take_turn(messages[i]).value();
    CHECK(reply.text == replies[i]);
    CHECK((reply.report.matched > 0) == (i > 0));
    REQUIRE(opened.conversation().finish_save());
  }
}

TEST_CASE("a session that does not save goes on from what is saved, and leaves it as it was") {
  Chatting chatting;
  {
    auto saving = chatting.open();
    REQUIRE(saving.take_turn("Tell me about the garden."));
    REQUIRE(saving.conversation().finish_save());
  }
  const auto writes = chatting.memory.puts();
  auto conversation = open_conversation(chatting.model.backend, chatting.store, "a talk", strategy::load(ExactCodec{}),
                                        {.read_only = true});
  Chatting::Session reading(chatting.model.backend, std::move(*conversation), chatting.model.tokenizer,
                            *chatting.model.chat, {.most_tokens = 8, .saves = false});
  const auto first = reading.take_turn("Which bed was it?").value();
  CHECK(first.report.matched > 0);
  CHECK_FALSE(first.not_saved);
  REQUIRE(reading.take_turn("And the beans?"));
  REQUIRE(reading.conversation().finish_save());
  CHECK(chatting.memory.puts() == writes);
}

TEST_CASE("who looks on sees the restore before the reply, and each token of it") {
  Chatting chatting;
  auto session = chatting.open();
  std::vector<Token> shown;
  bool restored = false;
  const auto reply = session.take_turn("Hello.", {.restored =
                                                      [&](const RestoreReport& report) {
                                                        restored = true;
                                                        CHECK(report.asked > 0);
                                                        CHECK(shown.empty());
                                                      },
                                                  .show =
                                                      [&](Token token) {
                                                        shown.push_back(token);
                                                        return true;
                                                      }});
  REQUIRE(reply);
  CHECK(restored);
  CHECK(chatting.model.tokenizer.decode(shown) == reply->text);
}

TEST_CASE("a reply that was interrupted is saved as far as it came") {
  Chatting chatting;
  std::size_t shown = 0;
  {
    auto session = chatting.open();
    const auto reply = session.take_turn("Hello.", {.show =
                                                        [&](Token) {
                                                          ++shown;
                                                          return true;
                                                        },
                                                    .interrupted = [&] { return shown == 3; }});
    REQUIRE(reply);
    CHECK(reply->ended == Ended::interrupted);
    REQUIRE(session.conversation().finish_save());
    CHECK(session.conversation().saved_tokens() == session.conversation().tokens());
  }
  auto again = chatting.open();
  CHECK(again.take_turn("Go on.").value().report.matched > 0);
}

TEST_CASE("where the context is full, a dialogue stops or goes on without its oldest turns") {
  const std::string message = "word word word word word";
  for (const bool leaves_out : {false, true}) {
    CAPTURE(leaves_out);
    Chatting chatting(128);
    auto session = chatting.open({.most_tokens = 64, .leaves_out = leaves_out});
    std::size_t left_out = 0;
    bool refused = false, told = false;
    for (int turn = 0; turn < 8 && !refused; ++turn) {
      const auto reply = session.take_turn(message);
      refused = !reply;
      if (!reply) {
        CHECK(reply.error().code == ErrorCode::too_large);
        CHECK(reply.error().message.find("leave out the oldest turns") != std::string::npos);
        continue;
      }
      left_out += reply->left_out;
      told = told || reply->could_go_on;
      CHECK(session.conversation().tokens().size() <= 128 + 1);  // the last token waits to be run
    }
    CHECK(refused == !leaves_out);
    CHECK(told == !leaves_out);
    CHECK((left_out > 0) == leaves_out);
  }
}

TEST_CASE("a reply whose turn cannot be saved is there all the same") {
  Chatting chatting;
  chatting.memory.set_faults({{.operation = Fault::Operation::put, .code = ErrorCode::no_space}});
  auto session = chatting.open();
  CHECK_FALSE(session.take_turn("Hello.").value().text.empty());
  CHECK_FALSE(session.conversation().finish_save());
  chatting.memory.set_faults({});
  const auto next = session.take_turn("And?");
  REQUIRE(next);
  CHECK_FALSE(next->not_saved);
  CHECK(session.conversation().finish_save().value().rows > 0);
}

TEST_CASE("no turn without a token to say it in") {
  Chatting chatting;
  chatting.model.chat->turn_end = "<|none|>";
  auto session = chatting.open();
  REQUIRE_FALSE(chatting.model.tokenizer.special("<|none|>"));
  static_cast<void>(session.take_turn("Hello."));  // ends by its length: the token is not needed yet
  CHECK_THROWS_AS(static_cast<void>(session.take_turn("Again.")), PreconditionError);
}

}  // namespace
}  // namespace krul
