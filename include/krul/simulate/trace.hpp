#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace krul::simulate {

/// One request of a trace.
struct Arrival {
  double at_s = 0;
  std::size_t conversation = 0;
  std::size_t history = 0;  ///< leading tokens that the conversation had before
  std::size_t prompt = 1;   ///< new tokens, >= 1
  std::size_t output = 1;   ///< tokens generated, >= 1
  bool saved = false;       ///< the history was saved before the trace begins
  [[nodiscard]] std::size_t tokens() const noexcept { return history + prompt + output; }
};

/// One request of a trace that names its blocks of tokens but no conversations.
struct HashedRequest {
  double at_s = 0;
  std::size_t input = 0;              ///< tokens
  std::size_t output = 0;             ///< tokens
  std::vector<std::uint64_t> hashes;  ///< [ceil(input / block)] equal if all tokens up to the block's end are
};

/// Finds the conversations: a request goes on with the one whose last whole block is the deepest among its own. A
/// conversation goes on once from each turn; a second branch begins a new one, whose history is then its own.
/// @param requests  by time
/// @param block     tokens of a block
/// @source ours; the meaning of the hashes: the README of Mooncake's traces, read
class ConversationFinder {
 public:
  [[nodiscard]] Arrival add(const HashedRequest& request, std::size_t block) {
    Arrival arrival{.at_s = request.at_s,
                    .prompt = std::max<std::size_t>(request.input, 1),
                    .output = std::max<std::size_t>(request.output, 1)};
    const std::size_t whole = std::min(request.hashes.size(), request.input / block);
    bool found = false;
    for (std::size_t i = whole; i-- > 0 && !found;) {
      const auto last = last_blocks_.find(request.hashes[i]);
      if (last == last_blocks_.end()) continue;
      found = true;
      arrival.conversation = last->second.conversation;
      // The tokens that were generated belong to the history as well, as far as the new input reaches.
      arrival.history = std::min(last->second.tokens, arrival.prompt - 1);
      last_blocks_.erase(last);
    }
    if (!found) arrival.conversation = conversations_++;
    arrival.prompt -= arrival.history;
    if (whole > 0) last_blocks_[request.hashes[whole - 1]] = {arrival.conversation, arrival.tokens()};
    return arrival;
  }
  [[nodiscard]] std::size_t conversations() const noexcept { return conversations_; }

 private:
  struct Turn {
    std::size_t conversation = 0;
    std::size_t tokens = 0;
  };
  std::unordered_map<std::uint64_t, Turn> last_blocks_;
  std::size_t conversations_ = 0;
};

/// Leading values that two lists share.
[[nodiscard]] inline std::size_t common_prefix(std::span<const std::uint64_t> a, std::span<const std::uint64_t> b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace krul::simulate
