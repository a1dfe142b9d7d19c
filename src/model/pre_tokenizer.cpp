#include "krul/model/pre_tokenizer.hpp"

#include <utf8proc.h>

#include <array>
#include <string>

namespace krul {

namespace {

constexpr std::array known_pre_tokenizers = {PreTokenizer::smollm, PreTokenizer::qwen2, PreTokenizer::gpt2,
                                             PreTokenizer::llama_bpe};

enum class Class : std::uint8_t { letter, number, space, symbol, end };

constexpr auto ascii_classes = [] {
  std::array<Class, 128> classes{};
  for (std::size_t c = 0; c < classes.size(); ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool number = c >= '0' && c <= '9';
    const bool space = c == ' ' || (c >= '\t' && c <= '\r');
    classes[c] = letter ? Class::letter : number ? Class::number : space ? Class::space : Class::symbol;
  }
  return classes;
}();

/// Unicode's White_Space beyond ASCII: next line, and every separator. U+001C..1F, U+180E and U+200B are none.
Class class_of(utf8proc_int32_t code_point) noexcept {
  if (code_point == 0x85) return Class::space;
  switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return Class::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return Class::number;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return Class::space;
    default:
      return Class::symbol;
  }
}

/// One code point, or one byte of malformed UTF-8, or the end of the text.
struct Unit {
  Class kind = Class::end;
  std::size_t size = 0;
};

Unit unit_at(std::string_view text, std::size_t at) noexcept {
  if (at >= text.size()) return {};
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 128) return {ascii_classes[byte], 1};
  utf8proc_int32_t code_point = 0;
  const utf8proc_ssize_t size =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                       static_cast<utf8proc_ssize_t>(std::min<std::size_t>(text.size() - at, 4)), &code_point);
  if (size <= 0) return {Class::symbol, 1};
  return {class_of(code_point), static_cast<std::size_t>(size)};
}

constexpr bool is_line_end(char c) noexcept {
  return c == '\r' || c == '\n';
}

/// Bytes of 's 't 're 've 'm 'll 'd at the front of `text`; 0 if there is none. In any case, if asked for: then the
/// long s (U+017F) is a case of s.
std::size_t contraction(std::string_view text, bool any_case) noexcept {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const auto letter = [&](std::size_t at) {
    const char c = at < text.size() ? text[at] : '\0';
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  const char first = letter(1);
  const char second = letter(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  if (any_case && text.substr(1, 2) == "\xC5\xBF") return 3;
  return 0;
}

/// One piece at the front of `text`, which is not empty.
class Scanner {
 public:
  /// With `numbers_alone` every number is a piece, and what is before it is cut as if the text ended there.
  Scanner(std::string_view text, bool numbers_alone) noexcept : text_(text), numbers_alone_(numbers_alone) {}

  std::size_t gpt2() const noexcept {
    const Unit first = unit_at(text_, 0);
    if (numbers_alone_ && first.kind == Class::number) return first.size;
    if (const std::size_t size = contraction(text_, false)) return size;
    const std::size_t start = text_[0] == ' ' ? 1 : 0;
    const Class kind = at(start).kind;
    return kind == Class::space || kind == Class::end ? blanks() : run(kind, start);
  }

  std::size_t llama(std::size_t most_numbers) const noexcept {
    if (const std::size_t size = contraction(text_, true)) return size;
    const Unit first = at(0);
    if (first.kind == Class::letter) return run(Class::letter, 0);
    if (first.kind == Class::number) return run(Class::number, 0, most_numbers);
    if (!is_line_end(text_[0]) && at(first.size).kind == Class::letter) return run(Class::letter, first.size);
    const std::size_t start = text_[0] == ' ' ? 1 : 0;
    if (at(start).kind == Class::symbol) {
      std::size_t end = run(Class::symbol, start);
      while (end < text_.size() && is_line_end(text_[end])) ++end;
      return end;
    }
    const std::size_t line_ends = text_.substr(0, run(Class::space, 0)).find_last_of("\r\n");
    return line_ends == std::string_view::npos ? blanks() : line_ends + 1;
  }

 private:
  Unit at(std::size_t position) const noexcept {
    const Unit unit = unit_at(text_, position);
    return numbers_alone_ && unit.kind == Class::number ? Unit{} : unit;
  }

  /// Where the run of `kind` that goes on at `from` ends, after at most `most` code points.
  std::size_t run(Class kind, std::size_t from, std::size_t most = std::string_view::npos) const noexcept {
    Unit unit = at(from);
    for (; unit.kind == kind && most > 0; --most) unit = at(from += unit.size);
    return from;
  }

  /// White space at the front, without its last code point if something follows: that belongs to what follows.
  std::size_t blanks() const noexcept {
    std::size_t last = 0;
    std::size_t end = 0;
    Unit unit = at(0);
    while (unit.kind == Class::space) {
      last = end;
      unit = at(end += unit.size);
    }
    return unit.kind == Class::end || last == 0 ? end : last;
  }

  std::string_view text_;
  bool numbers_alone_;
};

}  // namespace

std::string_view name(PreTokenizer kind) noexcept {
  constexpr std::string_view names[] = {"smollm", "qwen2", "gpt-2", "llama-bpe"};
  return names[static_cast<std::size_t>(kind)];
}

Result<PreTokenizer> pre_tokenizer_named(std::string_view wanted) {
  std::string known;
  for (const PreTokenizer kind : known_pre_tokenizers) {
    if (name(kind) == wanted) return kind;
    known += (known.empty() ? "" : ", ") + std::string(name(kind));
  }
  return fail(ErrorCode::unsupported, "pre-tokenizer \"" + std::string(wanted.substr(0, 64)) +
                                          "\" is not supported: use a model with one of " + known);
}

std::size_t first_piece(PreTokenizer kind, std::string_view text) noexcept {
  if (text.empty()) return 0;
  switch (kind) {
    case PreTokenizer::smollm:
      return Scanner(text, true).gpt2();
    case PreTokenizer::gpt2:
      return Scanner(text, false).gpt2();
    case PreTokenizer::qwen2:
      return Scanner(text, false).llama(1);
    case PreTokenizer::llama_bpe:
      break;
  }
  return Scanner(text, false).llama(3);
}

}  // namespace krul
