#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/tokens.hpp"
#include "krul/model/chat_format.hpp"
#include "krul/model/tokenizer.hpp"

namespace krul {

/// Where a turn lies in a conversation's tokens.
struct TurnPlace {
  std::string_view role;  ///< "system", "user" or "assistant"
  std::size_t begin = 0;  ///< its first token
  std::size_t text = 0;   ///< the first token of its content
};

/// The turns of a conversation, in order, by the tokens that begin them in the model's chat format: those of the role,
/// or, where nothing stands before a reply, those that end what it answers. None where a role begins with letters
/// alone: what people write may hold the same letters.
[[nodiscard]] std::vector<TurnPlace> find_turns(std::span<const Token> tokens, const Tokenizer& tokenizer,
                                                const ChatFormat& chat);

/// Whether a conversation has turns of a chat format, by what the format writes around the users' messages.
[[nodiscard]] bool has_turns_of(std::span<const Token> tokens, const Tokenizer& tokenizer, const ChatFormat& chat);

/// A turn as people read it, without what its format writes around it.
struct ShownTurn {
  std::string role;  ///< "system", "user" or "assistant"; "other": what stands in no turn of the format
  std::string content;
};

/// All that a conversation says, in order; nothing where find_turns finds none.
[[nodiscard]] std::vector<ShownTurn> shown_turns(std::span<const Token> tokens, const Tokenizer& tokenizer,
                                                 const ChatFormat& chat);

/// A conversation without its oldest turns.
struct Shortened {
  std::vector<Token> tokens;
  std::size_t left_out = 0;  ///< tokens
};

/// Leaves out the fewest of the oldest turns, in pairs of a user's and its answer, that bring a conversation to `most`
/// tokens; what stands before the first of them, the system's turn, stays, and so does the last pair.
/// @param users  [turns] where the users' turns begin
/// @return       nothing if that is not enough
[[nodiscard]] std::optional<Shortened> without_oldest(std::span<const Token> tokens, std::span<const std::size_t> users,
                                                      std::size_t most);

}  // namespace krul
