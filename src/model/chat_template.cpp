#include "chat_template.hpp"

#include "quoted.hpp"
#include "template_builtins.hpp"
#include "template_parser.hpp"
#include "template_value.hpp"

namespace krul {
namespace chat_template {
namespace {

/// Runs a template.
class Machine {
 public:
  explicit Machine(const TemplateInput& input) {
    List messages;
    for (const auto& message : input.messages)
      messages.push_back({std::make_shared<Map>(
          Map{{"role", text_value(message.role)}, {"content", text_value(message.content, Said::something)}})});
    scopes_.push_back({{"messages", list_value(std::move(messages))},
                       {"add_generation_prompt", {input.add_generation_prompt}},
                       {"bos_token", text_value(std::string(input.bos))},
                       {"eos_token", text_value(std::string(input.eos))},
                       {"tools", {None{}}},
                       {"documents", {None{}}}});
  }

  std::string run(const std::vector<Node>& nodes) {
    for (const Node& node : nodes) run(node);
    return std::move(out_);
  }

 private:
  void run(const Node& node) {
    count();
    switch (node.kind) {
      case Node::text:
        return write(node.value);
      case Node::output:
        return write(shown(whole(node.words)));
      case Node::set:
        return assign(node.words);
      case Node::choice:
        for (const auto& [condition, inside] : node.arms)
          if (condition.empty() || holds(whole(condition))) return run_all(inside);
        return;
      case Node::loop:
        return loop(node);
      case Node::nothing:  // a macro: whoever calls it calls something unknown
        return;
    }
  }
  void run_all(const std::vector<Node>& nodes) {
    for (const Node& node : nodes) run(node);
  }

  void write(std::string_view text) {
    if (out_.size() + text.size() > most_bytes) throw Unknown{"texts of that length"};
    out_ += text;
  }
  void count() {
    if (++steps_ > most_steps) throw Unknown{"so many steps"};
  }

  void assign(const Words& words) {
    begin(words);
    const std::string name = take(Word::name);
    std::string member;
    if (accept(".")) member = take(Word::name);
    if (!accept("=")) throw Unknown{"this kind of 'set'"};
    Value value = condition();
    finish();
    if (member.empty()) {
      scopes_.back()[name] = std::move(value);
    } else {
      Map* space = look_up(name).map();
      if (space == nullptr) throw Unknown{"a member of something that is no namespace"};
      (*space)[member] = std::move(value);
    }
  }

  void loop(const Node& node) {
    begin(node.arms.front().first);
    const std::string name = take(Word::name);
    if (!accept("in")) throw Unknown{"this kind of 'for'"};
    const Value all = either();
    if (!at("")) throw Unknown{"this kind of 'for'"};
    if (all.list() == nullptr) throw Unknown{"a loop over something that is no list"};
    must_be_unsaid(all, "a loop over parts");
    const List& items = *all.list();
    if (items.empty() && node.arms.size() > 1) return run_all(node.arms[1].second);
    for (std::size_t i = 0; i < items.size(); ++i) {
      Map facts{{"index0", number_value(i)},
                {"index", number_value(i + 1)},
                {"revindex", number_value(items.size() - i)},
                {"revindex0", number_value(items.size() - i - 1)},
                {"length", number_value(items.size())},
                {"first", {i == 0}},
                {"last", {i + 1 == items.size()}},
                {"previtem", i > 0 ? items[i - 1] : Value{}},
                {"nextitem", i + 1 < items.size() ? items[i + 1] : Value{}}};
      scopes_.push_back({{name, items[i]}, {"loop", {std::make_shared<Map>(std::move(facts))}}});
      run_all(node.arms.front().second);
      scopes_.pop_back();
    }
  }

  // Expressions are read and computed in one go. What a condition leaves out is read, not computed: `idle_` is not 0.

  Value whole(const Words& words) {
    begin(words);
    Value value = condition();
    finish();
    return value;
  }
  void begin(const Words& words) {
    words_ = &words;
    word_ = 0;
  }
  void finish() const {
    if (!at("")) throw Unknown{krul::quoted(word().value) + " there"};
  }
  [[nodiscard]] const Word& word() const {
    static const Word behind{Word::end, ""};
    return word_ < words_->size() ? (*words_)[word_] : behind;
  }
  /// Whether this sign or name is next; "" is the end.
  [[nodiscard]] bool at(std::string_view value) const { return word().kind != Word::text && word().value == value; }
  bool accept(std::string_view value) {
    if (!at(value)) return false;
    ++word_;
    return true;
  }
  void expect(std::string_view value) {
    if (!accept(value)) throw Unknown{krul::quoted(word().value) + " in place of " + krul::quoted(value)};
  }
  std::string take(Word::Kind kind) {
    if (word().kind != kind) throw Unknown{krul::quoted(word().value) + " there"};
    return (*words_)[word_++].value;
  }
  template <class Read>
  Value idly(bool idle, Read&& read) {
    idle_ += idle ? 1 : 0;
    Value value = read();
    idle_ -= idle ? 1 : 0;
    return value;
  }

  [[nodiscard]] bool holds(const Value& value) const { return idle_ == 0 && value.truth(); }

  /// a if b else c: what stands first is computed once its condition is known.
  Value condition() {
    if (++depth_ > deepest) throw Unknown{"parentheses so deep"};
    const std::size_t first = word_;
    const bool has_if = if_ahead();
    Value value = idly(has_if, [&] { return either(); });
    if (has_if) {
      expect("if");
      const bool chosen = holds(either());
      const std::size_t otherwise = word_;
      word_ = first;
      value = idly(!chosen, [&] { return either(); });
      word_ = otherwise;
      if (accept("else")) {
        Value other = idly(chosen, [&] { return condition(); });
        if (!chosen) value = std::move(other);
      }
    }
    --depth_;
    return value;
  }
  /// Whether an "if" belongs to the value that begins here.
  [[nodiscard]] bool if_ahead() const {
    int open = 0;
    for (std::size_t i = word_; i < words_->size() && open >= 0; ++i) {
      const auto& [kind, value] = (*words_)[i];
      if (kind == Word::text) continue;
      if (open == 0 && (value == "," || value == "else")) return false;
      if (open == 0 && value == "if") return true;
      if (value == "(" || value == "[") ++open;
      if (value == ")" || value == "]") --open;
    }
    return false;
  }

  Value either() {
    Value value = both();
    while (accept("or")) {
      const bool enough = holds(value);
      Value other = idly(enough, [&] { return both(); });
      if (!enough) value = std::move(other);
    }
    return value;
  }
  Value both() {
    Value value = negation();
    while (accept("and")) {
      const bool more = holds(value);
      Value other = idly(!more, [&] { return negation(); });
      if (more) value = std::move(other);
    }
    return value;
  }
  Value negation() {
    bool negated = false, any = false;
    for (; accept("not"); any = true) negated = !negated;
    Value value = comparison();
    return any ? Value{holds(value) != negated} : value;
  }

  Value comparison() {
    Value value = sum();
    for (;;) {
      const bool negated = at("not") && word_ + 1 < words_->size() && (*words_)[word_ + 1].value == "in";
      if (negated) ++word_;
      if (accept("in")) {
        const Value within = sum();
        if (idle_ == 0) value = {contains(within, value) != negated};
      } else if (at("==") || at("!=")) {
        const bool wanted = take(Word::sign) == "==";
        const Value other = sum();
        if (idle_ == 0) value = {equal(value, other) == wanted};
      } else if (at("<") || at(">") || at("<=") || at(">=")) {
        const std::string sign = take(Word::sign);
        const Value other = sum();
        if (idle_ != 0) continue;
        const auto a = value.integer(), b = other.integer();
        if (!a || !b) throw Unknown{krul::quoted(sign) + " of what are no numbers"};
        value = {sign == "<" ? *a < *b : sign == ">" ? *a > *b : sign == "<=" ? *a <= *b : *a >= *b};
      } else {
        return value;
      }
    }
  }

  Value sum() {
    Value value = concatenation();
    while (at("+") || at("-")) {
      const bool plus = take(Word::sign) == "+";
      const Value other = concatenation();
      if (idle_ != 0) continue;
      if (value.get<std::int64_t>() && other.get<std::int64_t>())
        value = small(*value.integer() + (plus ? *other.integer() : -*other.integer()));
      else if (plus && value.list() && other.list())
        value = joined(value, other);
      else if (plus && value.get<std::string>() && other.get<std::string>())
        value = appended(value, other);
      else if (plus)
        throw Unknown{"'+' of something that is no text"};
      else
        throw Unknown{"'-' of what are no numbers"};
    }
    return value;
  }
  static Value joined(const Value& front, const Value& back) {
    must_be_unsaid(front, "'+' with parts");
    must_be_unsaid(back, "'+' with parts");
    List items = *front.list();
    items.insert(items.end(), back.list()->begin(), back.list()->end());
    if (items.size() > most_steps) throw Unknown{"lists of that length"};
    return list_value(std::move(items));
  }
  static Value small(std::int64_t number) {
    if (number > 1'000'000'000 || number < -1'000'000'000) throw Unknown{"so large a number"};
    return {number};
  }
  Value concatenation() {
    Value value = product();
    while (accept("~")) {
      const Value other = product();
      if (idle_ == 0) value = appended(value, other);
    }
    return value;
  }
  Value product() {
    Value value = sign();
    while (accept("%")) {  // no others: what they make of numbers could tell turns apart beyond count_reach()
      const Value other = sign();
      if (idle_ != 0) continue;
      const auto a = value.integer(), b = other.integer();
      if (!a || !b || *a < 0 || *b <= 0) throw Unknown{"'%' of what are no positive numbers"};
      value = small(*a % *b);
    }
    return value;
  }
  Value sign() {
    if (!accept("-")) return filtered();
    const Value value = filtered();
    if (idle_ != 0) return {};
    if (!value.integer()) throw Unknown{"'-' of what is no number"};
    return {-*value.integer()};
  }

  /// A value with its filters and tests.
  Value filtered() {
    Value value = part();
    for (;;) {
      if (accept("|")) {
        const std::string name = take(Word::name);
        const List arguments = at("(") ? this->arguments() : List{};
        if (idle_ == 0) value = filter(name, value, arguments);
      } else if (accept("is")) {
        const bool negated = accept("not");
        const std::string name = take(Word::name);
        List arguments;
        if (at("(")) arguments = this->arguments();
        if (idle_ == 0) value = {test(name, value, arguments) != negated};
      } else {
        return value;
      }
    }
  }

  /// A value with its members, items and calls.
  Value part() {
    count();
    Value value = first();
    for (;;) {
      if (accept(".")) {
        const std::string name = take(Word::name);
        if (at("(")) {
          const List arguments = this->arguments();
          if (idle_ == 0) value = method(value, name, arguments);
        } else if (idle_ == 0) {
          value = member(value, text_value(name));
        }
      } else if (accept("[")) {
        value = item(value);
      } else {
        break;
      }
    }
    return value;
  }

  Value first() {
    if (word().kind == Word::text) return text_value(take(Word::text));
    if (word().kind == Word::number) return {static_cast<std::int64_t>(std::stoll(take(Word::number)))};
    if (accept("(")) {
      Value value = condition();
      expect(")");
      return value;
    }
    if (accept("[")) {
      List items;
      while (!at("]")) {
        items.push_back(condition());
        if (!accept(",")) break;
      }
      expect("]");
      return list_value(std::move(items));
    }
    const std::string name = take(Word::name);
    if (name == "true" || name == "True") return {true};
    if (name == "false" || name == "False") return {false};
    if (name == "none" || name == "None") return {None{}};
    if (!at("(")) return look_up(name);
    if (name == "namespace") return name_space();
    const List arguments = this->arguments();
    if (idle_ != 0) return {};
    if (name == "raise_exception") throw Refusal{arguments.empty() ? "" : shown(arguments.front())};
    throw Unknown{"the function " + krul::quoted(name)};
  }

  [[nodiscard]] Value look_up(std::string_view name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
      if (const auto found = scope->find(name); found != scope->end()) return found->second;
    return {};
  }

  List arguments() {
    List values;
    expect("(");
    while (!at(")")) {
      values.push_back(condition());
      if (!accept(",")) break;
    }
    expect(")");
    return values;
  }
  Value name_space() {
    Map members;
    expect("(");
    while (!at(")")) {
      const std::string name = take(Word::name);
      expect("=");
      members[name] = condition();
      if (!accept(",")) break;
    }
    expect(")");
    return {std::make_shared<Map>(std::move(members))};
  }

  /// value[a], value[a:b], value[::-1]; the bracket is open.
  Value item(const Value& value) {
    std::optional<std::int64_t> bounds[3];
    std::size_t colons = 0;
    Value key;
    bool numbers = true;
    while (!at("]")) {
      if (accept(":")) {
        if (++colons > 2) throw Unknown{"such a slice"};
        continue;
      }
      key = condition();
      bounds[colons] = key.integer();
      numbers = numbers && bounds[colons];
    }
    expect("]");
    if (idle_ != 0) return {};
    if (colons == 0) return member(value, key);
    if (!numbers) throw Unknown{"such a slice"};
    must_be_unsaid(value, "a slice");
    const List* items = value.list();
    const std::int64_t step = bounds[2].value_or(1);
    if (items == nullptr || (step != 1 && (step != -1 || bounds[0] || bounds[1]))) throw Unknown{"such a slice"};
    if (step == -1) return list_value({items->rbegin(), items->rend()});
    const auto size = static_cast<std::int64_t>(items->size());
    const auto place = [&](std::int64_t bound) {
      return std::clamp<std::int64_t>(bound < 0 ? bound + size : bound, 0, size);
    };
    const std::int64_t begin = place(bounds[0].value_or(0)), end = place(bounds[1].value_or(size));
    return list_value({items->begin() + begin, items->begin() + std::max(begin, end)});
  }

  std::string out_;
  std::vector<Map> scopes_;
  const Words* words_ = nullptr;
  std::size_t word_ = 0;
  std::size_t steps_ = 0;
  int idle_ = 0, depth_ = 0;
};

}  // namespace
}  // namespace chat_template

namespace {

std::size_t sum_of_numbers(const chat_template::Words& words) {
  std::size_t sum = 0;
  for (const auto& word : words)
    if (word.kind == chat_template::Word::number) sum += std::stoul(word.value);
  return sum;
}

std::size_t sum_of_numbers(const std::vector<chat_template::Node>& nodes) {
  std::size_t sum = 0;
  for (const auto& node : nodes) {
    sum += sum_of_numbers(node.words);
    for (const auto& [condition, inside] : node.arms) sum += sum_of_numbers(condition) + sum_of_numbers(inside);
  }
  return sum;
}

}  // namespace

std::size_t count_reach(std::string_view source) {
  try {
    return sum_of_numbers(chat_template::parse_template(source));
  } catch (const chat_template::Unknown&) {
    return 0;
  }
}

Result<std::string> render_template(std::string_view source, const TemplateInput& input) {
  try {
    const auto nodes = chat_template::parse_template(source);
    return chat_template::Machine(input).run(nodes);
  } catch (const chat_template::Unknown& unknown) {
    return fail(ErrorCode::unsupported, "krul does not know " + unknown.what + " in a chat template");
  } catch (const chat_template::Refusal& refusal) {
    return fail(ErrorCode::invalid_argument, "the chat template refuses these messages: " + krul::quoted(refusal.why));
  }
}

}  // namespace krul
