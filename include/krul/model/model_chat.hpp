#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/core/tokens.hpp"
#include "krul/model/chat_format.hpp"
#include "krul/model/gguf.hpp"
#include "krul/model/tokenizer.hpp"

namespace krul {

/// The chat format of a model file: of the family that is asked for, else of its chat template; a file without one has
/// ChatML if its tokenizer has ChatML's tokens.
/// Fails with unsupported where there is no format that krul knows, or one whose tokens the tokenizer has not;
/// invalid_argument if there is no such family. The message names --chat-template and the families.
/// @param family  one of chat_families(), or empty
/// @post the format's turn_end is a token; what its texts name as tokens is never made from quoted text
[[nodiscard]] Result<ChatFormat> chat_format_of(const GgufFile& file, Tokenizer& tokenizer,
                                                std::string_view family = {});

/// The formats of a model file that tokens have turns of.
struct HeldFormats {
  std::vector<std::string_view> families;  ///< of chat_families()
  bool is_of_file = false;                 ///< the file's own chat template is one of them
};

/// The chat formats that a conversation may have been held in, of those that the file's tokenizer has the tokens of.
/// @param tokenizer  of the file, to be changed by each of the formats
[[nodiscard]] HeldFormats held_formats(const GgufFile& file, Tokenizer tokenizer, std::span<const Token> tokens);

/// The tokens of a conversation from its beginning, with the model's first token before them where there is one.
[[nodiscard]] std::vector<Token> encode_conversation(const Tokenizer& tokenizer, const RenderedText& text);

/// The token that ends a reply, by a format that chat_format_of() gave.
/// @throws PreconditionError if the format's turn_end is no token
[[nodiscard]] Token turn_end(const Tokenizer& tokenizer, const ChatFormat& format);

/// A conversation's tokens with the user's next message, up to where the reply to it begins. The last turn ends as the
/// template ends it, whether the reply came to its end, was cut short or ended with another token (<|endoftext|>).
/// @param before  the conversation, up to the reply's last token; not empty
/// @throws PreconditionError as turn_end, or if there are no tokens
[[nodiscard]] std::vector<Token> encode_next_turn(const Tokenizer& tokenizer, const ChatFormat& format,
                                                  std::span<const Token> before, std::string_view user_text);

}  // namespace krul
