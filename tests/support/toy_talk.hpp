#pragma once

#include <string>
#include <vector>

#include "krul/compress/exact_codec.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/conversation/verify.hpp"
#include "krul/store/any_store.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "support/toy_conversation.hpp"

namespace krul::test {

inline std::vector<std::byte> toy_bytes(std::size_t count) {
  return std::vector<std::byte>(count, std::byte{7});
}

/// A conversation of the toy model that is kept in some store: exact rows, in blocks of 16 tokens.
/// The store is any, so that conversations are compiled once for all of them.
struct ToyTalk {
  using Talk = Conversation<toy::Backend, AnyStore>;

  template <ConversationStore S>
  explicit ToyTalk(S& in) : store(AnyStore::borrowed(in)) {
    options.block = 16;
  }

  Talk open(AnyPolicy policy = FullLoad{}) {
    options.strategy = strategy::by_layer("exact", ExactCodec{}, std::move(policy));
    return Talk::open(model, store, "a talk", options).value();
  }
  /// Opens it, runs the first `count` tokens and saves them, as the strategy that was set says.
  Result<SaveReport> turn(std::size_t count) {
    options.strategy = turns_by;
    auto opened = Talk::open(model, store, "a talk", options);
    if (!opened) return propagate(opened);
    last = opened->advance(std::span(tokens).first(count), logits).value();
    return opened->save();
  }
  /// Whether the last turn's logits are those of a run that was never interrupted.
  [[nodiscard]] bool is_right(std::size_t count) {
    return logits == run_through(model, {tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(count)}).logits;
  }
  [[nodiscard]] Manifest manifest() { return load_manifest(store, folder)->manifest; }
  /// No damage, and nothing that belongs to nothing.
  [[nodiscard]] bool is_clean() {
    const auto report = verify_conversation(store, folder);
    return report && report->problems.empty() && report->leftovers.empty();
  }

  AnyStore store;
  toy::Backend model{ElementType::f32};
  AnyStrategy turns_by = strategy::by_layer("exact", ExactCodec{});
  ConversationOptions options;
  std::vector<Token> tokens = toy_tokens(200);
  std::vector<float> logits = std::vector<float>(model.geometry().vocabulary);
  std::string folder = conversation_folder("a talk").value();
  RestoreReport last;  ///< of the last turn
};

}  // namespace krul::test
