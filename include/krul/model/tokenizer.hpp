#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/core/tokens.hpp"
#include "krul/model/gguf.hpp"
#include "krul/model/merge_table.hpp"
#include "krul/model/pre_tokenizer.hpp"
#include "krul/model/rendered_text.hpp"

namespace krul {

/// What a model file says about its tokens: plain data, not checked yet. Views into the file.
struct Vocabulary {
  /// Numbers that model files use.
  enum Kind : std::int64_t { undefined, normal, unknown, control, user_defined, unused, byte };

  std::string_view pre_tokenizer;
  std::vector<std::string_view> tokens;  ///< [size] normal ones in the printable alphabet of bytes, others as they
                                         ///< are; an empty one has the text "[EMPTY_n]", as llama.cpp has it
  std::vector<std::int64_t> kinds;       ///< [size], or empty: normal but for known ends of turns
  std::vector<std::string_view> merges;  ///< "left right", earliest first
  std::vector<std::uint64_t> turn_ends;  ///< tokens after which a reply is over, beside those known by name
  std::uint64_t text_begin = 11;         ///< BOS; the format's own default
  std::uint64_t text_end = 11;           ///< EOS; the same
  std::optional<bool> add_begin = {};    ///< whether BOS stands before each text; none: as the pre-tokenizer has it
  bool add_end = false;                  ///< whether EOS stands behind each text

  /// unsupported if the file's tokenizer is not byte-level BPE; not_found or corrupt if keys are missing or malformed.
  [[nodiscard]] static Result<Vocabulary> from_gguf(const GgufFile& file);
};

/// Byte-level BPE: text to tokens and back. Any bytes may be encoded, UTF-8 or not, and no Unicode normalisation is
/// done: decode(encode(text)) == text for each text whose bytes all have_token(). A byte without one leaves no token,
/// as in the models' own tokenizers (SmolLM2's vocabulary lacks 21 bytes: six control characters, and bytes that
/// well-formed UTF-8 has not or only in unassigned planes).
/// Const use is safe from several threads.
class Tokenizer {
 public:
  /// Whether a control token's name in the text ("<|im_start|>") becomes that token. User-defined tokens always do.
  /// The longest name wins; what lies between is cut as if it stood alone.
  enum class Special : std::uint8_t { parse, as_text };

  /// Fails as from_vocabulary and Vocabulary::from_gguf do. The file may be closed afterwards.
  [[nodiscard]] static Result<Tokenizer> from_gguf(const GgufFile& file);

  /// unsupported: unknown pre-tokenizer. too_large: over 2^21 tokens, 2^22 merges or 2^16 bytes in a token. corrupt:
  /// token there twice, kinds of other tokens or unknown, a byte of ASCII text without a token, a merge that is no
  /// pair of tokens or whose result is none, an end of turn, BOS or EOS that is used beyond the vocabulary.
  [[nodiscard]] static Result<Tokenizer> from_vocabulary(const Vocabulary& vocabulary);

  /// O(n log n) for n bytes, also if they are one word.
  /// @throws PreconditionError if the text has 4 GiB or more
  [[nodiscard]] std::vector<Token> encode(std::string_view text, Special special = Special::as_text) const;

  /// The same for a rendered conversation, or a part of one: names of control tokens are those tokens where the
  /// template wrote them, and letters where they are quoted.
  [[nodiscard]] std::vector<Token> encode(const RenderedText& text) const;

  /// What the model was trained to see before and behind each whole text (BOS and EOS), where there is anything.
  /// encode() adds neither: its text may be a part of another.
  /// @{
  [[nodiscard]] std::optional<Token> text_begin() const noexcept { return text_begin_; }
  [[nodiscard]] std::optional<Token> text_end() const noexcept { return text_end_; }
  /// @}

  /// The tokens' bytes in a row; control tokens give their names.
  /// @throws PreconditionError if a token is not in [0, size())
  [[nodiscard]] std::string decode(std::span<const Token> tokens) const;

  /// One token's bytes: valid as long as the Tokenizer; often only a part of a character.
  /// @throws PreconditionError if the token is not in [0, size())
  [[nodiscard]] std::string_view bytes(Token token) const;

  /// The control or user-defined token of that name.
  [[nodiscard]] std::optional<Token> special(std::string_view name) const;

  /// The first control or user-defined token that a text names.
  [[nodiscard]] std::optional<Token> first_special(std::string_view text) const;

  /// User-defined tokens that a template's text names count as control tokens from now on.
  void reserve(std::string_view template_text);
  /// A reply is over with this token, too.
  /// @throws PreconditionError if the token is not in [0, size())
  void add_turn_end(Token token);

  /// XXH3-128 over the texts of these tokens, each behind its length; 32 hexadecimal digits. Two tokenizers that give
  /// each of them the same text agree, whatever else they have. Empty if one is not in [0, size()).
  [[nodiscard]] std::string texts_hash(std::span<const Token> tokens) const;

  /// Whether the byte can be encoded.
  [[nodiscard]] bool has_token(unsigned char byte) const noexcept { return byte_tokens_[byte] >= 0; }

  /// Whether a reply is over with this token: the file's end tokens, and special ones that end replies by their names
  /// (<|im_end|>, <|endoftext|>, <|eot_id|>, <end_of_turn>, </s> and the like).
  [[nodiscard]] bool ends_turn(Token token) const noexcept;

  [[nodiscard]] std::size_t size() const noexcept { return starts_.size() - 1; }
  [[nodiscard]] PreTokenizer pre_tokenizer() const noexcept { return pre_tokenizer_; }

  /// XXH3-128 over the pre-tokenizer's name, the tokens, their kinds and the merges; 32 hexadecimal digits.
  [[nodiscard]] const std::string& hash() const noexcept { return hash_; }

 private:
  struct SpecialToken {
    Token token = 0;
    bool control = false;
  };
  struct SpecialMatch {
    std::size_t position = 0;
    Token token = 0;
  };
  class Merger;

  Tokenizer() = default;
  using TokenOf = std::unordered_map<std::string_view, Token>;
  [[nodiscard]] Result<TokenOf> take_tokens(const Vocabulary& vocabulary);
  [[nodiscard]] Status take_merges(const Vocabulary& vocabulary, const TokenOf& token_of);
  [[nodiscard]] Status take_turn_ends(const Vocabulary& vocabulary);
  [[nodiscard]] Status take_text_ends(const Vocabulary& vocabulary);
  std::optional<SpecialMatch> find_special(std::string_view text, Special special) const;

  PreTokenizer pre_tokenizer_ = PreTokenizer::gpt2;
  std::string bytes_;                                    // of all tokens in a row
  std::vector<std::uint32_t> starts_;                    // [size + 1] into bytes_
  std::array<Token, 256> byte_tokens_{};                 // -1: none
  MergeTable merges_;                                    // pair to rank
  std::vector<Token> merged_;                            // rank to result
  std::vector<SpecialToken> specials_;                   // longest name first
  std::bitset<256> special_starts_;                      // first bytes of their names
  std::unordered_map<std::string, Token> whole_pieces_;  // only where a piece that is a token needs no merges
  std::vector<Token> turn_ends_;                         // sorted
  std::optional<Token> text_begin_, text_end_;
  std::string hash_;
};

}  // namespace krul
