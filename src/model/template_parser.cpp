#include "template_parser.hpp"

#include <algorithm>
#include <iterator>

#include "quoted.hpp"
#include "template_value.hpp"

namespace krul::chat_template {
namespace {

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// Bytes of the quoted string at the front, with its quotes.
std::size_t quoted_size(std::string_view code) {
  std::size_t at = 1;
  while (at < code.size() && code[at] != code[0]) at += code[at] == '\\' ? 2 : 1;
  if (at >= code.size()) throw Unknown{"a string without an end"};
  return at + 1;
}

std::string unescaped(std::string_view literal) {
  std::string text;
  for (std::size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 == literal.size()) {
      text += literal[i];
      continue;
    }
    constexpr std::string_view escapes = "n\nt\tr\r\\\\''\"\"";
    const char escape = literal[++i];
    std::size_t known = 0;
    while (known < escapes.size() && escapes[known] != escape) known += 2;
    if (known == escapes.size()) throw Unknown{"the escape " + krul::quoted(literal.substr(i - 1, 2))};
    text += escapes[known + 1];
  }
  return text;
}

Words words_of(std::string_view code) {
  Words words;
  while (!code.empty()) {
    std::size_t size = 1;
    if (code[0] == ' ' || code[0] == '\n' || code[0] == '\t' || code[0] == '\r') {
    } else if (code[0] == '\'' || code[0] == '"') {
      size = quoted_size(code);
      words.push_back({Word::text, unescaped(code.substr(1, size - 2))});
    } else if (is_letter(code[0])) {
      while (size < code.size() && (is_letter(code[size]) || is_digit(code[size]))) ++size;
      words.push_back({Word::name, std::string(code.substr(0, size))});
    } else if (is_digit(code[0])) {
      while (size < code.size() && is_digit(code[size])) ++size;
      if (size > 9) throw Unknown{"so large a number"};
      words.push_back({Word::number, std::string(code.substr(0, size))});
    } else {
      for (const char* two : {"==", "!=", "<=", ">=", "//", "**"})
        if (code.starts_with(two)) size = 2;
      words.push_back({Word::sign, std::string(code.substr(0, size))});
    }
    code.remove_prefix(size);
  }
  return words;
}

class Parser {
 public:
  explicit Parser(std::string_view source) {
    for (std::size_t i = 0; i < source.size(); ++i)
      if (source[i] != '\r' || source.substr(i, 2) != "\r\n") source_ += source[i];
    if (source_.ends_with('\n')) source_.pop_back();
    cut();
  }

  std::vector<Node> parse() {
    auto nodes = body(0);
    if (at_ < pieces_.size()) throw Unknown{"the block " + krul::quoted(pieces_[at_].words.front().value)};
    return nodes;
  }

 private:
  struct Piece {
    char kind;  // 't', '{' or '%'
    std::string text;
    Words words;
  };

  void cut() {
    const std::string_view source(source_);
    std::size_t at = 0;
    bool strip = false, at_line_start = true;
    while (at < source.size()) {
      std::size_t open = source.find('{', at);
      while (open != std::string_view::npos && (open + 1 == source.size() || !is_block(source[open + 1])))
        open = source.find('{', open + 1);
      std::string_view text = source.substr(at, open == std::string_view::npos ? open : open - at);
      if (strip) text.remove_prefix(std::min(text.find_first_not_of(" \t\n\r\v\f"), text.size()));
      if (open == std::string_view::npos) return add_text(text);
      const char kind = source[open + 1];
      const char mark = open + 2 < source.size() ? source[open + 2] : ' ';
      if (mark == '-') {
        text = text.substr(0, text.find_last_not_of(" \t\n\r\v\f") + 1);
      } else if (kind != '{' && mark != '+') {  // blanks before a block that begins a line
        const std::size_t line = text.rfind('\n') + 1;
        if ((line > 0 || at_line_start) && text.find_first_not_of(" \t", line) == std::string_view::npos)
          text = text.substr(0, line);
      }
      add_text(text);

      const std::size_t begin = open + 2 + (mark == '-' || mark == '+' ? 1 : 0);
      std::size_t close = end_of(source, begin, kind);
      at = close + 2;
      const char last = close > begin ? source[close - 1] : ' ';
      strip = last == '-';
      if (last == '-' || last == '+') --close;
      if (kind != '#') pieces_.push_back({kind, {}, words_of(source.substr(begin, close - begin))});
      if (kind == '%' && pieces_.back().words.empty()) throw Unknown{"a block without a name"};
      at_line_start = kind != '{' && last != '-' && last != '+' && at < source.size() && source[at] == '\n';
      if (at_line_start) ++at;
    }
  }

  static bool is_block(char c) { return c == '{' || c == '%' || c == '#'; }

  /// Where the block's last two characters are.
  static std::size_t end_of(std::string_view source, std::size_t at, char kind) {
    const char closing[] = {kind == '{' ? '}' : kind, '}', 0};
    while (at < source.size() && !source.substr(at).starts_with(closing))
      at += kind != '#' && (source[at] == '\'' || source[at] == '"') ? quoted_size(source.substr(at)) : 1;
    if (at >= source.size()) throw Unknown{"a block without an end"};
    return at;
  }

  void add_text(std::string_view text) {
    if (!text.empty()) pieces_.push_back({'t', std::string(text), {}});
  }

  /// Up to a block that belongs to what surrounds it.
  std::vector<Node> body(int depth) {
    if (depth > deepest) throw Unknown{"blocks so deep"};
    std::vector<Node> nodes;
    for (; at_ < pieces_.size(); ++at_) {
      Piece& piece = pieces_[at_];
      if (piece.kind == 't') {
        nodes.push_back({Node::text, std::move(piece.text), {}, {}});
      } else if (piece.kind == '{') {
        nodes.push_back({Node::output, {}, std::move(piece.words), {}});
      } else {
        const std::string name = piece.words.front().value;
        if (name == "generation" || name == "endgeneration") continue;  // marks what is learnt, and changes no text
        if (name.starts_with("end") || name == "elif" || name == "else") return nodes;
        nodes.push_back(block(name, depth));
      }
    }
    return nodes;
  }

  Node block(const std::string& name, int depth) {
    Words words = behind_name();
    if (name == "set" && std::ranges::any_of(words, [](const Word& word) { return word.value == "="; }))
      return {Node::set, {}, std::move(words), {}};
    if (name != "for" && name != "if" && name != "macro") throw Unknown{"the block " + krul::quoted(name)};
    Node node{name == "for" ? Node::loop : name == "if" ? Node::choice : Node::nothing, {}, {}, {}};
    for (std::string next = name; next != "end" + name;) {
      ++at_;
      auto inside = body(depth + 1);
      node.arms.emplace_back(std::move(words), std::move(inside));
      if (at_ == pieces_.size()) throw Unknown{"the block " + krul::quoted(name) + " without an end"};
      next = pieces_[at_].words.front().value;
      words = behind_name();
    }
    return node;
  }

  Words behind_name() {
    Words& words = pieces_[at_].words;
    return {std::make_move_iterator(words.begin() + 1), std::make_move_iterator(words.end())};
  }

  std::string source_;
  std::vector<Piece> pieces_;
  std::size_t at_ = 0;
};

}  // namespace

std::vector<Node> parse_template(std::string_view source) {
  return Parser(source).parse();
}

}  // namespace krul::chat_template
