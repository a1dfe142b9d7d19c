#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace krul::chat_template {

// A template is a stranger's program: it is stopped long before it takes time or memory. Chats take some hundred steps.
constexpr std::size_t most_steps = 20'000;                // values that are looked at
constexpr std::size_t most_bytes = std::size_t{1} << 16;  // of a text
constexpr int deepest = 100;                              // blocks and parentheses within each other

/// Something that krul does not know in the template.
struct Unknown {
  std::string what;
};
/// The template's own refusal.
struct Refusal {
  std::string why;
};

/// Whether a value is what a message says, or holds it. A template may pass that on and drop white space around it.
/// What else it does with it would depend on each message, and krul runs no template for each message.
enum class Said : std::uint8_t {
  nothing,
  something,
  perhaps_nothing,  ///< a part of it, or without white space: may be empty
};

struct Value;
using List = std::vector<Value>;
using Map = std::map<std::string, Value, std::less<>>;
struct Undefined {};
struct None {};

/// Lists and maps are shared, as in Python.
struct Value {
  std::variant<Undefined, None, bool, std::int64_t, std::string, std::shared_ptr<List>, std::shared_ptr<Map>> held;
  Said said = Said::nothing;

  template <class T>
  [[nodiscard]] const T* get() const {
    return std::get_if<T>(&held);
  }
  [[nodiscard]] const List* list() const {
    const auto* found = get<std::shared_ptr<List>>();
    return found ? found->get() : nullptr;
  }
  [[nodiscard]] Map* map() const {
    const auto* found = get<std::shared_ptr<Map>>();
    return found ? found->get() : nullptr;
  }
  [[nodiscard]] std::optional<std::int64_t> integer() const {
    if (const auto* number = get<std::int64_t>()) return *number;
    if (const auto* flag = get<bool>()) return *flag ? 1 : 0;
    return std::nullopt;
  }
  [[nodiscard]] bool truth() const {
    if (const auto number = integer()) return *number != 0;
    if (said == Said::perhaps_nothing) throw Unknown{"a condition on a part of what a message says"};
    if (const auto* text = get<std::string>()) return !text->empty();
    if (const auto* items = list()) return !items->empty();
    return map() != nullptr && !map()->empty();
  }
};

inline Value text_value(std::string text, Said said = Said::nothing) {
  if (text.size() > most_bytes) throw Unknown{"texts of that length"};
  return {std::move(text), said};
}
inline Value list_value(List items, Said said = Said::nothing) {
  return {std::make_shared<List>(std::move(items)), said};
}
inline Value number_value(std::size_t number) {
  return {static_cast<std::int64_t>(number)};
}

/// For what asks something of a value.
inline void must_be_unsaid(const Value& value, std::string_view what) {
  if (value.said != Said::nothing) throw Unknown{std::string(what) + " of what a message says"};
}

inline bool equal(const Value& a, const Value& b) {
  const auto x = a.integer(), y = b.integer();
  if (x || y) return x == y;
  const auto *s = a.get<std::string>(), *t = b.get<std::string>();
  if ((s && t) || (a.list() && b.list())) {
    must_be_unsaid(a, "'=='");
    must_be_unsaid(b, "'=='");
  }
  if (s || t) return s && t && *s == *t;
  if (a.list() && b.list())
    return std::equal(a.list()->begin(), a.list()->end(), b.list()->begin(), b.list()->end(), equal);
  if (a.map() && b.map() && a.map() != b.map()) throw Unknown{"'==' of messages"};
  if (a.map() || b.map()) return a.map() == b.map();
  return a.held.index() == b.held.index();
}

inline std::string shown(const Value& value) {
  if (const auto* text = value.get<std::string>()) return *text;
  if (const auto* flag = value.get<bool>()) return *flag ? "True" : "False";
  if (const auto* number = value.get<std::int64_t>()) return std::to_string(*number);
  if (value.get<None>()) return "None";
  if (value.get<Undefined>()) return "";
  throw Unknown{"the text of a list"};
}

inline const std::string& text_of(const Value& value, std::string_view what) {
  if (const auto* text = value.get<std::string>()) return *text;
  throw Unknown{std::string(what) + " of something that is no text"};
}

/// Two texts in a row. Empty only if both are.
inline Value appended(const Value& a, const Value& b) {
  const auto is_sure = [](const Value& value) {
    return value.said == Said::something || (value.said == Said::nothing && !shown(value).empty());
  };
  const bool none = a.said == Said::nothing && b.said == Said::nothing;
  return text_value(shown(a) + shown(b), none                       ? Said::nothing
                                         : is_sure(a) || is_sure(b) ? Said::something
                                                                    : Said::perhaps_nothing);
}

}  // namespace krul::chat_template
