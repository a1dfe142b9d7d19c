#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <utility>

#include "chat_template.hpp"
#include "krul/model/chat_format.hpp"

namespace krul {
namespace {

using SystemPlace = ChatFormat::SystemPlace;

// What stands for messages: words that no template writes, without and with white space that it may drop.
const std::string user_words[] = {"quiuserone", "quiusertwo", "quiuserthree", "quiuserfour"};
const std::string assistant_words[] = {"quireplyone", "quireplytwo", "quireplythree"};
const std::string system_word = "quisystemone";
const std::string white = " \t ";
constexpr std::size_t most_counted = 128;  // messages of a conversation that a template may tell apart

Message user(std::size_t i) {
  return {"user", user_words[i % std::size(user_words)]};
}
Message assistant(std::size_t i) {
  return {"assistant", assistant_words[i % std::size(assistant_words)]};
}
Message spaced(Message message) {
  message.content = white + message.content + white;
  return message;
}
const Message system_message{"system", system_word};

/// What is left of a text behind a part that it begins, or before one that it ends with.
std::optional<std::string> behind(const std::string& text, const std::string& front) {
  if (!text.starts_with(front)) return std::nullopt;
  return text.substr(front.size());
}
std::optional<std::string> before(const std::string& text, const std::string& back) {
  if (!text.ends_with(back)) return std::nullopt;
  return text.substr(0, text.size() - back.size());
}

std::string common_front(const std::string& a, const std::string& b) {
  std::size_t size = 0;
  while (size < std::min(a.size(), b.size()) && a[size] == b[size]) ++size;
  return a.substr(0, size);
}

/// Learns a format from what a template makes of some conversations, and looks whether it renders others alike.
class Learner {
 public:
  Learner(std::string_view source, std::string_view bos, std::string_view eos)
      : source_(source), bos_(bos), eos_(eos) {}

  Result<ChatFormat> learn() {
    // Of an unknown template this says what is unknown.
    if (const auto tried = ask({user(0), assistant(0), user(1), assistant(1), user(2)}, true); !tried)
      return fail(ErrorCode::unsupported, tried.error().message);
    if (count_reach(source_) > most_counted)
      return fail(ErrorCode::unsupported, "krul does not know numbers so large in a chat template");
    if (!learn_turns()) return irregular("its turns");
    learn_white_space();
    learn_system();
    learn_order();
    learn_thoughts();
    if (!agrees_on_conversations(false)) return irregular("conversations of several turns");
    if (!agrees_on_conversations(true)) format_.system_place = SystemPlace::nowhere;
    if (!agrees_on_thoughts()) return irregular("messages with </think> in them");
    return format_;
  }

 private:
  using Messages = std::vector<Message>;

  [[nodiscard]] Result<std::string> ask(const Messages& messages, bool prompt) const {
    return render_template(source_, {messages, prompt, bos_, eos_});
  }
  static tl::unexpected<Error> irregular(const std::string& what) {
    return fail(ErrorCode::unsupported, "krul cannot tell from a chat template how it writes " + what);
  }

  /// What the template writes around the messages, if it writes each of them once, in their order.
  [[nodiscard]] std::optional<std::vector<std::string>> around(const Messages& messages, bool prompt) const {
    const auto text = ask(messages, prompt);
    if (!text) return std::nullopt;
    std::vector<std::string> gaps;
    std::size_t from = 0;
    for (const auto& message : messages) {
      const auto at = text->find(message.content, from);
      if (at == std::string::npos || text->find(message.content) != at) return std::nullopt;
      gaps.push_back(text->substr(from, at - from));
      from = at + message.content.size();
      if (text->find(message.content, from) != std::string::npos) return std::nullopt;
    }
    gaps.push_back(text->substr(from));
    return gaps;
  }

  /// The text behind the last message, without the EOS that some templates close a text with, where it begins `whole`.
  [[nodiscard]] std::optional<std::string> turn_end_in(const std::string& tail, const std::string& whole) const {
    if (whole.starts_with(tail)) return tail;
    if (eos_.empty()) return std::nullopt;
    const auto open = before(tail, std::string(eos_));
    return open && whole.starts_with(*open) ? open : std::nullopt;
  }

  bool learn_turns() {
    const auto all = around({user(0), assistant(0), user(1), assistant(1), user(2)}, true);
    const auto one = around({user(0)}, false), two = around({user(0), assistant(0)}, false);
    if (!all || !one || !two || (*all)[1] != (*all)[3] || (*all)[2] != (*all)[4]) return false;
    const std::string &to_assistant = (*all)[1], &to_user = (*all)[2];

    const auto user_end = turn_end_in(one->back(), to_assistant);
    auto assistant_end = turn_end_in(two->back(), to_user);
    // Some templates end with the prompt for a reply, asked for or not.
    always_prompts_ = !assistant_end && one == around({user(0)}, true);
    if (always_prompts_) assistant_end = common_front(two->back(), to_user);
    if (!user_end || !assistant_end) return false;
    format_.user.after = *user_end;
    format_.assistant.after = *assistant_end;
    format_.assistant.before = *behind(to_assistant, *user_end);
    format_.user.before = *behind(to_user, *assistant_end);
    const auto begin = before(all->front(), format_.user.before), prompt = behind(all->back(), *user_end);
    if (!begin || !prompt) return false;
    format_.begin = *begin;
    format_.generation_prompt = *prompt;
    return true;
  }

  /// Whether white space is gone before, and behind, a word of a text.
  static void learn_trims(const Result<std::string>& text, const std::string& word, ChatTurn& turn) {
    if (!text) return;
    turn.trim_front = text->find(white + word) == std::string::npos;
    turn.trim_back = text->find(word + white) == std::string::npos;
  }
  void learn_white_space() {
    const auto text = ask({spaced(user(0)), spaced(assistant(0)), spaced(user(1))}, true);
    learn_trims(text, user_words[0], format_.user);
    learn_trims(text, assistant_words[0], format_.assistant);
  }

  void learn_system() {
    const Messages front = {system_message, user(0), assistant(0), user(1)};
    if (const auto gaps = around(front, true)) {
      const std::string &pre = (*gaps)[0], &middle = (*gaps)[1];
      if (const auto after = before(middle, format_.user.before); after && !format_.user.before.empty()) {
        learn_system_turn(pre, *after);
      } else if (const auto own = behind(pre, format_.begin + format_.user.before)) {
        format_.system_place = SystemPlace::first_user;
        format_.system_begin = format_.begin;
        format_.system.before = *own;
        format_.system.after = middle;
      }
    } else if (const auto text = ask(front, true)) {
      const auto first = text->find(assistant_words[0]), at = text->find(system_word), last = text->find(user_words[1]);
      if (first < at && at < last && last != std::string::npos) {
        const std::string before_it =
            text->substr(first + assistant_words[0].size(), at - first - assistant_words[0].size());
        if (const auto own = behind(before_it, format_.assistant.after + format_.user.before)) {
          format_.system_place = SystemPlace::last_user;
          format_.system_begin = format_.begin;
          format_.system.before = *own;
          format_.system.after = text->substr(at + system_word.size(), last - at - system_word.size());
        }
      }
    }
    const auto text = ask({spaced(system_message), spaced(user(0))}, true);
    learn_trims(text, system_word, format_.system);
    ChatTurn with_system = format_.user;
    learn_trims(text, user_words[0], with_system);
    format_.system_keeps_front = format_.user.trim_front && !with_system.trim_front;
  }

  void learn_system_turn(const std::string& pre, const std::string& after) {
    format_.system.after = after;
    const auto late = around({user(0), assistant(0), system_message, user(1)}, true);
    const auto own = late ? behind((*late)[2], format_.assistant.after) : std::nullopt;
    const auto begin = own ? before(pre, *own) : std::nullopt;
    format_.system_place = begin ? SystemPlace::anywhere : SystemPlace::first;
    format_.system_begin = begin ? *begin : pre;
    format_.system.before = begin ? *own : "";
  }

  void learn_order() {
    Messages mixed = {user(0), user(1), assistant(0), assistant(1), user(2)};
    if (format_.system_place == SystemPlace::anywhere) mixed.insert(mixed.begin() + 1, system_message);
    format_.any_order = true;
    format_.any_order = agrees(mixed, true);
  }

  void learn_thoughts() {
    Messages thinking = {user(0), assistant(0), user(1)};
    thinking[1].content = "quithought</think>" + thinking[1].content;
    format_.drops_thoughts = true;
    format_.drops_thoughts = agrees(thinking, true);
  }

  [[nodiscard]] bool agrees(const Messages& messages, bool prompt) const {
    const auto theirs = ask(messages, prompt);
    const auto ours = format_.render(messages, prompt);
    if (!theirs || !ours) return false;
    const std::string text = ours->text();
    return *theirs == text || (!prompt && *theirs == text + std::string(eos_));
  }

  /// Whether conversations of each length look the same: of up to seven messages with and without white space, and
  /// further as long as the template's numbers could make a difference.
  [[nodiscard]] bool agrees_on_conversations(bool with_system) const {
    if (with_system && format_.system_place == SystemPlace::nowhere) return true;
    constexpr std::size_t always = 7;
    const std::size_t longest = std::max(always, count_reach(source_) + 4);  // a reach, from either side of each role
    Messages conversation;
    for (std::size_t i = 0; i < longest; ++i) conversation.push_back(i % 2 == 0 ? user(i / 2) : assistant(i / 2));
    for (std::size_t length = 1; length <= conversation.size(); ++length)
      for (const bool white_space : {false, true})
        for (const bool prompt : {false, true}) {
          const bool replied = length % 2 == 0;
          if (length > always && (white_space || prompt == replied)) continue;
          if ((always_prompts_ && replied) || (prompt && replied && !format_.any_order)) continue;
          Messages messages(conversation.begin(), conversation.begin() + static_cast<std::ptrdiff_t>(length));
          if (with_system) messages.insert(messages.begin(), system_message);
          if (white_space)
            for (auto& message : messages) message = spaced(message);
          if (!agrees(messages, prompt)) return false;
        }
    return true;
  }

  /// Whether the end of a reply's thoughts means something in replies alone, and always the same.
  [[nodiscard]] bool agrees_on_thoughts() const {
    const std::string end = "</think>";
    for (const auto& around_word :
         {std::pair{"qui" + end, std::string()}, std::pair{"qui" + end + end, std::string()},
          std::pair{end, end + "qui"}, std::pair{std::string(), end}, std::pair{white + end + white, white}})
      for (std::size_t place = 0; place < 4; ++place) {
        Messages conversation = {system_message, user(0), assistant(0), user(1)};
        conversation[place].content = around_word.first + conversation[place].content + around_word.second;
        if (format_.system_place == SystemPlace::nowhere) conversation.erase(conversation.begin());
        if (!agrees(conversation, true)) return false;
      }
    return true;
  }

  std::string_view source_, bos_, eos_;
  ChatFormat format_;
  bool always_prompts_ = false;
};

}  // namespace

Result<ChatFormat> ChatFormat::from_template(std::string_view source, std::string_view bos, std::string_view eos) {
  return Learner(source, bos, eos).learn();
}

}  // namespace krul
