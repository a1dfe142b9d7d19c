#include "krul/model/chat_format.hpp"

#include "quoted.hpp"
#include "white_space.hpp"

namespace krul {
namespace {

using SystemPlace = ChatFormat::SystemPlace;

void quote(RenderedText& text, const ChatTurn& turn, std::string_view content, bool keep_front = false) {
  text.quote(trimmed(content, turn.trim_front && !keep_front, turn.trim_back));
}

void write_turn(RenderedText& text, const ChatTurn& turn, std::string_view content) {
  text.write(turn.before);
  quote(text, turn, content);
  text.write(turn.after);
}

std::string_view behind_thoughts(std::string_view reply) {
  constexpr std::string_view end = "</think>";
  const auto at = reply.rfind(end);
  return at == std::string_view::npos ? reply : reply.substr(at + end.size());
}

tl::unexpected<Error> refuse(const std::string& why) {
  return fail(ErrorCode::invalid_argument, why + " in this model's chat template");
}

/// Roles that are known, where the format has them.
Status check_order(const ChatFormat& format, std::span<const Message> messages) {
  bool user_speaks = true;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const auto& role = messages[i].role;
    if (role == "system") {
      if (format.system_place == SystemPlace::nowhere) return refuse("there are no system messages");
      if (i > 0 && format.system_place != SystemPlace::anywhere) return refuse("a system message stands first");
      if (format.system_place == SystemPlace::first_user &&
          (i + 1 == messages.size() || messages[i + 1].role != "user"))
        return refuse("a user's message follows the system message");
      continue;
    }
    if (role != "user" && role != "assistant")
      return fail(ErrorCode::invalid_argument,
                  "role " + krul::quoted(role) + " of a message is unknown: use system, user or assistant");
    if (!format.any_order && (role == "user") != user_speaks)
      return refuse("user and assistant take turns, the user first");
    user_speaks = role != "user";
  }
  return {};
}

}  // namespace

Result<RenderedText> ChatFormat::render(std::span<const Message> messages, bool add_generation_prompt) const {
  if (const auto status = check_order(*this, messages); !status) return propagate(status);
  RenderedText text;
  const bool has_system = !messages.empty() && messages.front().role == "system";
  const bool within_user = system_place == SystemPlace::first_user || system_place == SystemPlace::last_user;
  const Message* pending = has_system && within_user ? &messages.front() : nullptr;  // for a user's turn to come
  if (!messages.empty()) text.write(has_system ? system_begin : begin);
  for (std::size_t i = pending != nullptr ? 1 : 0; i < messages.size(); ++i) {
    const auto& [role, content] = messages[i];
    const bool takes_system =
        pending != nullptr && role == "user" && (system_place == SystemPlace::first_user || i + 1 == messages.size());
    if (!takes_system) {
      const auto& turn = role == "system" ? system : role == "user" ? user : assistant;
      write_turn(text, turn, drops_thoughts && role == "assistant" ? behind_thoughts(content) : content);
      continue;
    }
    text.write(user.before);
    write_turn(text, system, pending->content);
    quote(text, user, content, system_keeps_front);
    text.write(user.after);
    pending = nullptr;
  }
  if (add_generation_prompt) text.write(generation_prompt);
  return text;
}

RenderedText ChatFormat::render_next_turn(std::string_view user_text, Reply reply) const {
  std::string_view end = assistant.after;
  if (const auto at = end.find(turn_end); reply == Reply::ended && at != std::string_view::npos)
    end.remove_prefix(at + turn_end.size());
  RenderedText text;
  text.write(end);
  write_turn(text, user, user_text);
  return std::move(text.write(generation_prompt));
}

RenderedText ChatFormat::render_user_turn(std::string_view content) const {
  RenderedText text;
  write_turn(text, user, content);
  return std::move(text.write(generation_prompt));
}

}  // namespace krul
