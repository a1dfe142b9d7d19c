#include "krul/model/tokenizer.hpp"

#include <algorithm>
#include <iterator>
#include <limits>

#include "content_hash.hpp"
#include "quoted.hpp"

namespace krul {

namespace {

constexpr std::size_t most_tokens = std::size_t{1} << 21;
constexpr std::size_t most_merges = std::size_t{1} << 22;
constexpr std::size_t longest_token = std::size_t{1} << 16;

/// Byte-level vocabularies write each byte as one printable character: itself where Latin-1 prints it, else the next
/// free one from U+0100 on.
constexpr std::size_t alphabet_end = 0x144;

constexpr bool prints(std::size_t byte) noexcept {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
}

/// Code point to byte; -1 where the alphabet has no such character.
constexpr auto byte_of_character = [] {
  std::array<int, alphabet_end> bytes{};
  bytes.fill(-1);
  std::size_t next = 0x100;
  for (std::size_t byte = 0; byte < 256; ++byte) bytes[prints(byte) ? byte : next++] = static_cast<int>(byte);
  return bytes;
}();

/// The bytes that a token's printable form stands for; the form itself if it is not in the alphabet.
std::string bytes_of(std::string_view printable) {
  std::string bytes;
  for (std::size_t i = 0; i < printable.size(); ++i) {
    std::size_t code_point = static_cast<unsigned char>(printable[i]);
    if (code_point >= 0xC2 && code_point < 0xE0 && i + 1 < printable.size())  // the alphabet ends below U+0800
      code_point = (code_point & 0x1FU) << 6 | (static_cast<unsigned char>(printable[++i]) ^ 0x80U);
    else if (code_point >= 0x80)
      return std::string(printable);
    if (code_point >= alphabet_end || byte_of_character[code_point] < 0) return std::string(printable);
    bytes += static_cast<char>(byte_of_character[code_point]);
  }
  return bytes;
}

/// Special tokens of these names end a reply, whatever a file says.
constexpr std::string_view known_turn_ends[] = {
    "<|im_end|>", "<|endoftext|>",   "<|eot_id|>",    "<|eom_id|>", "<|end|>", "<|EOT|>",
    "</s>",       "<|end_of_text|>", "<end_of_turn>", "<eos>",      "[EOT]",   "<｜end▁of▁sentence｜>"};

constexpr bool is_ascii_text(std::size_t byte) noexcept {
  return (byte >= ' ' && byte <= '~') || byte == '\t' || byte == '\n' || byte == '\r';
}

/// Of a token in a file that says no kinds, as llama.cpp has it.
std::int64_t kind_by_name(std::string_view token) {
  return std::ranges::find(known_turn_ends, token) == std::end(known_turn_ends) ? Vocabulary::normal
                                                                                : Vocabulary::control;
}

/// Whether models with this pre-tokenizer see BOS before each text where their file does not say, as llama.cpp has it.
constexpr bool adds_begin(PreTokenizer kind) noexcept {
  return kind == PreTokenizer::llama_bpe;
}

/// "token 17"
std::string numbered(const char* what, std::size_t index) {
  return what + (" " + std::to_string(index));
}

std::string hash_of(const Vocabulary& vocabulary) {
  std::string content;  // each number little-endian, each text behind its length: no two vocabularies look the same
  const auto add_number = [&](std::uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) content += static_cast<char>(value >> shift);
  };
  const auto add_text = [&](std::string_view text) {
    add_number(text.size());
    content += text;
  };
  add_text(vocabulary.pre_tokenizer);
  add_number(vocabulary.tokens.size());
  for (const auto token : vocabulary.tokens) add_text(token);
  add_number(vocabulary.kinds.size());
  for (const auto kind : vocabulary.kinds) add_number(static_cast<std::uint64_t>(kind));
  add_number(vocabulary.merges.size());
  for (const auto merge : vocabulary.merges) add_text(merge);

  return content_hash(content);
}

}  // namespace

Result<Vocabulary> Vocabulary::from_gguf(const GgufFile& file) {
  const auto model = file.string_value("tokenizer.ggml.model");
  if (!model) return propagate(model);
  if (*model != "gpt2")
    return fail(ErrorCode::unsupported, file.path() + ": tokenizer " + quoted(*model) +
                                            " is not supported: use a model with byte-level BPE (\"gpt2\")");
  const auto pre_tokenizer = file.string_value("tokenizer.ggml.pre");
  if (!pre_tokenizer) return propagate(pre_tokenizer);
  auto tokens = file.string_array("tokenizer.ggml.tokens");
  if (!tokens) return propagate(tokens);
  constexpr const char* types = "tokenizer.ggml.token_type";
  auto kinds = file.has(types) ? file.integer_array(types) : Result<std::vector<std::int64_t>>();
  if (!kinds) return propagate(kinds);
  auto merges = file.string_array("tokenizer.ggml.merges");
  if (!merges) return propagate(merges);

  constexpr const char* suppressed = "tokenizer.ggml.suppress_tokens";
  if (const auto tokens_not_chosen = file.integer_array(suppressed); tokens_not_chosen && !tokens_not_chosen->empty())
    return fail(ErrorCode::unsupported,
                file.path() + ": krul does not do what key '" + suppressed + "' asks for: use a model without it");

  Vocabulary vocabulary{*pre_tokenizer, std::move(*tokens), std::move(*kinds), std::move(*merges), {}};
  for (const char* key : {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.eom_token_id"}) {
    if (!file.has(key)) continue;
    const auto token = file.unsigned_value(key);
    if (!token) return propagate(token);
    const std::string_view name(key);
    if (name.ends_with("bos_token_id")) {
      vocabulary.text_begin = *token;
    } else {
      vocabulary.turn_ends.push_back(*token);
      if (name.ends_with("eos_token_id")) vocabulary.text_end = *token;
    }
  }
  for (const char* key : {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"}) {
    if (!file.has(key)) continue;
    const auto flag = file.bool_value(key);
    if (!flag) return propagate(flag);
    (std::string_view(key).ends_with("add_bos_token") ? vocabulary.add_begin.emplace() : vocabulary.add_end) = *flag;
  }
  return vocabulary;
}

Result<Tokenizer> Tokenizer::from_gguf(const GgufFile& file) {
  const auto vocabulary = Vocabulary::from_gguf(file);
  if (!vocabulary) return propagate(vocabulary);
  auto tokenizer = from_vocabulary(*vocabulary);
  if (!tokenizer) return fail(tokenizer.error().code, file.path() + ": " + tokenizer.error().message);
  return tokenizer;
}

Result<Tokenizer> Tokenizer::from_vocabulary(const Vocabulary& vocabulary) {
  const auto pre_tokenizer = pre_tokenizer_named(vocabulary.pre_tokenizer);
  if (!pre_tokenizer) return propagate(pre_tokenizer);
  Tokenizer tokenizer;
  tokenizer.pre_tokenizer_ = *pre_tokenizer;
  const auto token_of = tokenizer.take_tokens(vocabulary);
  if (!token_of) return propagate(token_of);
  if (auto taken = tokenizer.take_merges(vocabulary, *token_of); !taken) return propagate(taken);
  if (auto taken = tokenizer.take_turn_ends(vocabulary); !taken) return propagate(taken);
  if (auto taken = tokenizer.take_text_ends(vocabulary); !taken) return propagate(taken);
  tokenizer.hash_ = hash_of(vocabulary);
  return tokenizer;
}

Result<Tokenizer::TokenOf> Tokenizer::take_tokens(const Vocabulary& vocabulary) {
  const auto& tokens = vocabulary.tokens;
  if (tokens.size() > most_tokens)
    return fail(ErrorCode::too_large, "the vocabulary has " + std::to_string(tokens.size()) + " tokens: at most " +
                                          std::to_string(most_tokens) + " are supported");
  if (!vocabulary.kinds.empty() && vocabulary.kinds.size() != tokens.size())
    return fail(ErrorCode::corrupt, "the vocabulary has " + std::to_string(tokens.size()) + " tokens but kinds for " +
                                        std::to_string(vocabulary.kinds.size()) + ": get the file again");

  TokenOf token_of;
  token_of.reserve(tokens.size());
  starts_.reserve(tokens.size() + 1);
  starts_.push_back(0);
  byte_tokens_.fill(-1);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto token = static_cast<Token>(i);
    const auto kind = vocabulary.kinds.empty() ? kind_by_name(tokens[i]) : vocabulary.kinds[i];
    if (tokens[i].size() > longest_token)
      return fail(ErrorCode::too_large, numbered("token", i) + " has " + std::to_string(tokens[i].size()) +
                                            " bytes: at most " + std::to_string(longest_token) + " are supported");
    if (kind < Vocabulary::undefined || kind > Vocabulary::byte)
      return fail(ErrorCode::corrupt, numbered("token", i) + " is of unknown kind " + std::to_string(kind) +
                                          " (known are 0 to 6): get the file again");
    if (!tokens[i].empty())
      if (const auto [other, inserted] = token_of.emplace(tokens[i], token); !inserted)
        return fail(ErrorCode::corrupt, quoted(tokens[i]) + " is both token " + std::to_string(other->second) +
                                            " and token " + std::to_string(i) + ": get the file again");

    const bool normal = kind == Vocabulary::normal;
    const std::string bytes = tokens[i].empty() ? "[EMPTY_" + std::to_string(i) + "]"
                              : normal          ? bytes_of(tokens[i])
                                                : std::string(tokens[i]);
    if (bytes_.size() + bytes.size() > std::numeric_limits<std::uint32_t>::max())
      return fail(ErrorCode::too_large, "the vocabulary's tokens have over 4 GiB together");
    bytes_ += bytes;
    starts_.push_back(static_cast<std::uint32_t>(bytes_.size()));
    if (normal && bytes.size() == 1) byte_tokens_[static_cast<unsigned char>(bytes[0])] = token;
    if (normal && pre_tokenizer_ == PreTokenizer::llama_bpe) whole_pieces_.emplace(bytes, token);
    if (kind == Vocabulary::control || kind == Vocabulary::user_defined) {
      specials_.push_back({token, kind == Vocabulary::control});
      special_starts_.set(static_cast<unsigned char>(bytes[0]));
    }
  }
  std::stable_sort(specials_.begin(), specials_.end(), [this](const SpecialToken& a, const SpecialToken& b) {
    return bytes(a.token).size() > bytes(b.token).size();
  });
  for (std::size_t byte = 0; byte < byte_tokens_.size(); ++byte)
    if (is_ascii_text(byte) && byte_tokens_[byte] < 0)
      return fail(ErrorCode::corrupt, "the vocabulary has no token for the single byte " + std::to_string(byte) +
                                          ": byte-level BPE needs one; get the file again");
  return token_of;
}

Status Tokenizer::take_merges(const Vocabulary& vocabulary, const TokenOf& token_of) {
  const auto& merges = vocabulary.merges;
  if (merges.size() > most_merges)
    return fail(ErrorCode::too_large, "the vocabulary has " + std::to_string(merges.size()) + " merges: at most " +
                                          std::to_string(most_merges) + " are supported");
  const auto find = [&](std::string_view text) {
    const auto found = token_of.find(text);
    return found == token_of.end() ? Token{-1} : found->second;
  };
  merges_ = MergeTable(merges.size());
  merged_.reserve(merges.size());
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::size_t gap = merges[rank].find(' ');
    const std::string_view left = merges[rank].substr(0, gap);
    const std::string_view right = gap == std::string_view::npos ? std::string_view() : merges[rank].substr(gap + 1);
    const Token left_token = find(left);
    const Token right_token = find(right);
    const Token result = find(std::string(left) += right);
    if (left_token < 0 || right_token < 0 || result < 0)
      return fail(ErrorCode::corrupt, numbered("merge", rank) + ", " + quoted(merges[rank]) +
                                          ", is not two tokens that make a third: get the file again");
    merges_.insert(left_token, right_token, static_cast<MergeRank>(rank));
    merged_.push_back(result);
  }
  return {};
}

Status Tokenizer::take_turn_ends(const Vocabulary& vocabulary) {
  for (const auto token : vocabulary.turn_ends) {
    if (token >= size())
      return fail(ErrorCode::corrupt, "the end of a turn is said to be token " + std::to_string(token) + " of " +
                                          std::to_string(size()) + ": get the file again");
    turn_ends_.push_back(static_cast<Token>(token));
  }
  for (const auto known : known_turn_ends)
    if (const auto token = special(known)) turn_ends_.push_back(*token);
  std::sort(turn_ends_.begin(), turn_ends_.end());
  return {};
}

Status Tokenizer::take_text_ends(const Vocabulary& vocabulary) {
  if (vocabulary.add_begin.value_or(adds_begin(pre_tokenizer_)))
    text_begin_ = static_cast<Token>(vocabulary.text_begin);
  if (vocabulary.add_end) text_end_ = static_cast<Token>(vocabulary.text_end);
  if ((text_begin_ && vocabulary.text_begin >= size()) || (text_end_ && vocabulary.text_end >= size()))
    return fail(ErrorCode::corrupt, "texts are said to begin with token " + std::to_string(vocabulary.text_begin) +
                                        " or end with token " + std::to_string(vocabulary.text_end) + " of " +
                                        std::to_string(size()) + ": get the file again");
  return {};
}

/// Merges the pieces of one text. Its lists are kept from piece to piece.
class Tokenizer::Merger {
 public:
  Merger(const Tokenizer& tokenizer, std::vector<Token>& tokens) : tokenizer_(tokenizer), tokens_(tokens) {}

  /// Appends the piece's tokens: the pair of lowest rank merges first, of equals the leftmost, until none merges.
  void operator()(std::string_view piece) {
    if (!tokenizer_.whole_pieces_.empty())
      if (const auto whole = tokenizer_.whole_pieces_.find(std::string(piece)); whole != tokenizer_.whole_pieces_.end())
        return tokens_.push_back(whole->second);
    start(piece);
    while (!candidates_.empty()) {
      std::pop_heap(candidates_.begin(), candidates_.end());
      const Candidate best = candidates_.back();
      candidates_.pop_back();
      if (stands(best)) apply(best);
    }
    for (std::uint32_t i = 0; i < symbols_.size(); i = symbols_[i].next) tokens_.push_back(symbols_[i].token);
  }

 private:
  /// A run of bytes that is one token by now; linked, since merging takes symbols out of the middle.
  struct Symbol {
    Token token;
    std::uint32_t size;  // bytes; 0 once its left neighbour has taken it in
    std::uint32_t previous;
    std::uint32_t next;  // the number of symbols, at the end
  };
  struct Candidate {
    MergeRank rank;
    std::uint32_t left;  // symbol
    std::uint32_t size;  // bytes of the pair
    /// The best one is the heap's largest.
    friend bool operator<(const Candidate& a, const Candidate& b) {
      return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
    }
  };

  void start(std::string_view piece) {
    symbols_.clear();
    candidates_.clear();
    for (const char byte : piece)
      if (const Token token = tokenizer_.byte_tokens_[static_cast<unsigned char>(byte)]; token >= 0) {
        const auto index = static_cast<std::uint32_t>(symbols_.size());
        symbols_.push_back({token, 1, index - 1, index + 1});  // the first one's previous is never looked at
      }
    for (std::uint32_t i = 0; i < symbols_.size(); ++i) propose(i);
    std::make_heap(candidates_.begin(), candidates_.end());
  }

  /// Appends the merge of symbol `left` and the next one, if there is one; true if so.
  bool propose(std::uint32_t left) {
    const Symbol& symbol = symbols_[left];
    if (symbol.next == symbols_.size()) return false;
    const Symbol& right = symbols_[symbol.next];
    const MergeRank rank = tokenizer_.merges_.rank(symbol.token, right.token);
    if (rank == no_merge) return false;
    candidates_.push_back({rank, left, symbol.size + right.size});
    return true;
  }

  /// Symbols only grow, to the right: a pair that starts and ends where it did is still the same pair.
  bool stands(const Candidate& candidate) const {
    const Symbol& left = symbols_[candidate.left];
    return left.size > 0 && left.next < symbols_.size() && left.size + symbols_[left.next].size == candidate.size;
  }

  void apply(const Candidate& candidate) {
    Symbol& left = symbols_[candidate.left];
    Symbol& right = symbols_[left.next];
    left.token = tokenizer_.merged_[candidate.rank];
    left.size = candidate.size;
    left.next = right.next;
    right.size = 0;
    if (left.next < symbols_.size()) symbols_[left.next].previous = candidate.left;
    if (propose(candidate.left)) std::push_heap(candidates_.begin(), candidates_.end());
    if (candidate.left > 0 && propose(left.previous)) std::push_heap(candidates_.begin(), candidates_.end());
  }

  const Tokenizer& tokenizer_;
  std::vector<Token>& tokens_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> candidates_;
};

std::vector<Token> Tokenizer::encode(const RenderedText& text) const {
  std::vector<Token> tokens;
  std::string letters;  // since the last control token: pieces and merges do not know whose text they are
  const auto flush = [&] {
    const auto more = encode(letters, Special::as_text);
    tokens.insert(tokens.end(), more.begin(), more.end());
    letters.clear();
  };
  for (const auto& part : text.parts()) {
    std::string_view rest = part.text;
    while (const auto match = part.of_template ? find_special(rest, Special::parse) : std::nullopt) {
      letters += rest.substr(0, match->position);
      flush();
      tokens.push_back(match->token);
      rest.remove_prefix(match->position + bytes(match->token).size());
    }
    letters += rest;
  }
  flush();
  return tokens;
}

std::vector<Token> Tokenizer::encode(std::string_view text, Special special) const {
  expects(text.size() <= std::numeric_limits<std::uint32_t>::max(), "Tokenizer::encode: the text has 4 GiB or more");
  std::vector<Token> tokens;
  tokens.reserve(text.size() / 4);
  Merger merger(*this, tokens);
  while (const auto match = find_special(text, special)) {
    for_each_piece(pre_tokenizer_, text.substr(0, match->position), merger);
    tokens.push_back(match->token);
    text.remove_prefix(match->position + bytes(match->token).size());
  }
  for_each_piece(pre_tokenizer_, text, merger);
  return tokens;
}

std::optional<Tokenizer::SpecialMatch> Tokenizer::find_special(std::string_view text, Special special) const {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!special_starts_[static_cast<unsigned char>(text[i])]) continue;
    for (const auto& candidate : specials_)
      if ((special == Special::parse || !candidate.control) && text.substr(i).starts_with(bytes(candidate.token)))
        return SpecialMatch{i, candidate.token};
  }
  return std::nullopt;
}

std::string Tokenizer::decode(std::span<const Token> tokens) const {
  std::string text;
  for (const Token token : tokens) text += bytes(token);
  return text;
}

std::string_view Tokenizer::bytes(Token token) const {
  expects(token >= 0 && static_cast<std::size_t>(token) < size(), "Tokenizer: no such token");
  const auto index = static_cast<std::size_t>(token);
  return std::string_view(bytes_).substr(starts_[index], starts_[index + 1] - starts_[index]);
}

std::string Tokenizer::texts_hash(std::span<const Token> tokens) const {
  std::string content;
  for (const Token token : tokens) {
    if (token < 0 || static_cast<std::size_t>(token) >= size()) return {};
    const std::string_view text = bytes(token);
    for (int shift = 0; shift < 32; shift += 8) content += static_cast<char>(text.size() >> shift);
    content += text;
  }
  return content_hash(content);
}

std::optional<Token> Tokenizer::special(std::string_view name) const {
  for (const auto& candidate : specials_)
    if (bytes(candidate.token) == name) return candidate.token;
  return std::nullopt;
}

std::optional<Token> Tokenizer::first_special(std::string_view text) const {
  const auto match = find_special(text, Special::parse);
  return match ? std::optional(match->token) : std::nullopt;
}

void Tokenizer::reserve(std::string_view text) {
  while (const auto match = find_special(text, Special::parse)) {
    for (auto& candidate : specials_) candidate.control = candidate.control || candidate.token == match->token;
    text.remove_prefix(match->position + bytes(match->token).size());
  }
}

void Tokenizer::add_turn_end(Token token) {
  expects(token >= 0 && static_cast<std::size_t>(token) < size(), "Tokenizer: no such token");
  if (!ends_turn(token)) turn_ends_.insert(std::upper_bound(turn_ends_.begin(), turn_ends_.end(), token), token);
}

bool Tokenizer::ends_turn(Token token) const noexcept {
  return std::binary_search(turn_ends_.begin(), turn_ends_.end(), token);
}

}  // namespace krul
