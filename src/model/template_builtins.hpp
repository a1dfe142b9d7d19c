#pragma once

#include "quoted.hpp"
#include "template_value.hpp"
#include "white_space.hpp"

namespace krul::chat_template {

// What templates may do with values. Each throws Unknown for what krul does not know.

/// What a reply's thoughts end with: the one text that a template may look for in what a message says, as krul tries
/// messages with it.
constexpr std::string_view thought_end = "</think>";

inline bool is_thought_end(const Value& value) {
  return value.get<std::string>() && *value.get<std::string>() == thought_end && value.said == Said::nothing;
}

inline bool contains(const Value& within, const Value& value) {
  if (!is_thought_end(value)) must_be_unsaid(within, "'in'");
  must_be_unsaid(value, "'in'");
  if (const auto* text = within.get<std::string>()) return text->find(text_of(value, "'in'")) != std::string::npos;
  if (const auto* items = within.list())
    return std::ranges::any_of(*items, [&](const Value& item) { return equal(item, value); });
  if (const auto* map = within.map()) return map->contains(text_of(value, "'in'"));
  throw Unknown{"'in' something that holds nothing"};
}

inline Value member(const Value& value, const Value& key) {
  must_be_unsaid(key, "a member");
  if (const auto* map = value.map()) {
    const auto found = map->find(text_of(key, "a member"));
    return found == map->end() ? Value{} : found->second;
  }
  if (const auto* items = value.list()) {
    const auto index = key.integer();
    if (!index) throw Unknown{"a member of a list"};
    if (*index != 0 && *index != -1) must_be_unsaid(value, "some part");
    const auto size = static_cast<std::int64_t>(items->size());
    const std::int64_t place = *index < 0 ? *index + size : *index;
    return place < 0 || place >= size ? Value{} : (*items)[static_cast<std::size_t>(place)];
  }
  if (value.get<std::string>()) throw Unknown{"a member of a text"};
  throw Refusal{"a member of nothing"};
}

inline Value method(const Value& value, std::string_view name, const List& arguments) {
  if (const auto* map = value.map(); map && name == "get" && !arguments.empty()) {
    const auto found = map->find(text_of(arguments[0], "'get'"));
    return found != map->end() ? found->second : arguments.size() > 1 ? arguments[1] : Value{None{}};
  }
  const std::string& text = text_of(value, "'" + std::string(name) + "()'");
  if (arguments.empty() || !is_thought_end(arguments[0])) {
    if (!name.ends_with("strip")) must_be_unsaid(value, krul::quoted(name));
    for (const Value& argument : arguments) must_be_unsaid(argument, krul::quoted(name));
  }
  const Said part = value.said == Said::nothing ? Said::nothing : Said::perhaps_nothing;
  const auto argument = [&](std::size_t i) -> const std::string& {
    if (i >= arguments.size()) throw Unknown{"'" + std::string(name) + "()' without a text"};
    return text_of(arguments[i], name);
  };
  if (arguments.empty()) {
    if (name == "strip") return text_value(std::string(trimmed(text, true, true)), part);
    if (name == "lstrip") return text_value(std::string(trimmed(text, true, false)), part);
    if (name == "rstrip") return text_value(std::string(trimmed(text, false, true)), part);
  }
  if (name == "startswith") return {text.starts_with(argument(0))};
  if (name == "endswith") return {text.ends_with(argument(0))};
  if (name == "split" && !argument(0).empty()) {
    List parts;
    for (std::size_t begin = 0;;) {
      const std::size_t end = text.find(argument(0), begin);
      parts.push_back(text_value(text.substr(begin, end - begin), part));
      if (end == std::string::npos) return list_value(std::move(parts), part);
      begin = end + argument(0).size();
    }
  }
  throw Unknown{"the method " + krul::quoted(name)};
}

inline Value filter(std::string_view name, const Value& value, const List& arguments) {
  if (name == "trim" && arguments.empty())
    return text_value(std::string(trimmed(shown(value), true, true)),
                      value.said == Said::nothing ? Said::nothing : Said::perhaps_nothing);
  if (name == "string") return text_value(shown(value), value.said);
  if (name == "safe") return value;
  if (name == "default" || name == "d") {
    if (arguments.empty()) return value.get<Undefined>() ? text_value("") : value;
    return value.get<Undefined>() || (arguments.size() > 1 && arguments[1].truth() && !value.truth()) ? arguments[0]
                                                                                                      : value;
  }
  if (name == "length" || name == "count") {
    must_be_unsaid(value, "the length");
    if (const auto* text = value.get<std::string>()) return number_value(text->size());
    if (value.list()) return number_value(value.list()->size());
  }
  const List* items = value.list();
  if (items && name == "list") return value;
  if (items && (name == "first" || name == "last"))
    return items->empty() ? Value{} : name == "first" ? items->front() : items->back();
  if (items && (name == "selectattr" || name == "rejectattr") && arguments.size() == 3 &&
      (equal(arguments[1], text_value("equalto")) || equal(arguments[1], text_value("==")))) {
    List chosen;
    for (const Value& item : *items)
      if (equal(member(item, arguments[0]), arguments[2]) == (name == "selectattr")) chosen.push_back(item);
    return list_value(std::move(chosen));
  }
  throw Unknown{"the filter " + krul::quoted(name)};
}

inline bool test(std::string_view name, const Value& value, const List& arguments) {
  if (name == "defined") return !value.get<Undefined>();
  if (name == "undefined") return value.get<Undefined>() != nullptr;
  if (name == "none") return value.get<None>() != nullptr;
  if (name == "string") return value.get<std::string>() != nullptr;
  if (name == "mapping") return value.map() != nullptr;
  if (name == "sequence" || name == "iterable") return value.get<std::string>() || value.list() || value.map();
  if (name == "number") return value.get<std::int64_t>() != nullptr;
  if (name == "boolean") return value.get<bool>() != nullptr;
  if (name == "true" || name == "false") return value.get<bool>() && value.truth() == (name == "true");
  if ((name == "equalto" || name == "eq") && arguments.size() == 1) return equal(value, arguments[0]);
  throw Unknown{"the test " + krul::quoted(name)};
}

}  // namespace krul::chat_template
