#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/model/chat_turns.hpp"

namespace krul {

/// Leaves out the oldest turns of a conversation that is too long for a model's context, where that is wanted.
class ContextRoom {
 public:
  /// Where the users' turns begin in a conversation's tokens.
  using FindUsers = std::function<std::vector<std::size_t>(std::span<const Token>)>;

  struct Settings {
    std::size_t context = 0;  ///< tokens that the model's cache holds at most
    std::size_t reply = 0;    ///< tokens of the longest reply; no more than a quarter of the context is kept for it
    bool leaves_out = true;   ///< false: nothing is ever left out
  };

  ContextRoom(Settings settings, FindUsers find_users)
      : settings_(settings),
        find_users_(std::move(find_users)),
        for_reply_(std::min(settings.reply, settings.context / 4)) {}

  /// A conversation with a new message, with room for a reply if that can be had.
  [[nodiscard]] std::vector<Token> for_message(std::vector<Token> tokens) {
    if (!settings_.leaves_out || tokens.size() + for_reply_ <= settings_.context) return tokens;
    return shortened(tokens, {settings_.context - for_reply_, settings_.context}).value_or(std::move(tokens));
  }
  /// A conversation with a reply that has filled the context, with room to go on; nothing if there is none.
  [[nodiscard]] std::optional<std::vector<Token>> for_more(std::span<const Token> tokens) {
    if (!settings_.leaves_out) return std::nullopt;
    return shortened(tokens, {settings_.context - for_reply_ / 2, settings_.context - 1});
  }
  /// Whether a conversation that has been stopped for its length could go on if turns were left out.
  [[nodiscard]] bool would_help(std::span<const Token> tokens) const {
    return !settings_.leaves_out && without_oldest(tokens, find_users_(tokens), settings_.context - 1).has_value();
  }

  /// Tokens that were left out until now.
  [[nodiscard]] std::size_t left_out() const noexcept { return left_out_; }

 private:
  /// To the first of the lengths that can be reached.
  std::optional<std::vector<Token>> shortened(std::span<const Token> tokens, std::initializer_list<std::size_t> most) {
    const auto users = find_users_(tokens);
    for (const std::size_t length : most)
      if (auto found = without_oldest(tokens, users, length)) {
        left_out_ += found->left_out;
        return std::move(found->tokens);
      }
    return std::nullopt;
  }

  Settings settings_;
  FindUsers find_users_;
  std::size_t for_reply_;
  std::size_t left_out_ = 0;
};

}  // namespace krul
