#include "krul/model/chat_turns.hpp"

#include <algorithm>
#include <array>

namespace krul {
namespace {

/// Whether a mark has no control token: people may write it, too.
bool is_of_letters(const Tokenizer& tokenizer, const std::string& mark) {
  return tokenizer.encode(mark, Tokenizer::Special::parse) == tokenizer.encode(mark, Tokenizer::Special::as_text);
}

/// The tokens by which a mark is found.
std::vector<Token> mark_tokens(const Tokenizer& tokenizer, const std::string& mark) {
  auto tokens = tokenizer.encode(mark, Tokenizer::Special::parse);
  // Its end may have been joined with how the content begins.
  if (tokens.size() > 1) tokens.pop_back();
  return tokens;
}

}  // namespace

std::vector<TurnPlace> find_turns(std::span<const Token> tokens, const Tokenizer& tokenizer, const ChatFormat& chat) {
  struct Mark {
    std::string_view role;
    std::vector<Token> tokens;
  };
  std::vector<Mark> marks;
  const auto add_mark = [&](std::string_view role, const std::string& text) {
    marks.push_back({role, mark_tokens(tokenizer, text)});
  };
  const std::string& reply = chat.assistant.before.empty() ? chat.user.after : chat.assistant.before;
  if (is_of_letters(tokenizer, chat.user.before) || is_of_letters(tokenizer, reply)) return {};
  if (!is_of_letters(tokenizer, chat.system.before)) add_mark("system", chat.system.before);
  add_mark("user", chat.user.before);
  add_mark("assistant", reply);
  std::vector<TurnPlace> turns;
  for (std::size_t at = 0; at < tokens.size(); ++at)
    for (const Mark& mark : marks) {
      const auto rest = tokens.subspan(at);
      if (mark.tokens.empty() || rest.size() < mark.tokens.size()) continue;
      if (std::ranges::equal(rest.first(mark.tokens.size()), mark.tokens))
        turns.push_back({mark.role, at, at + mark.tokens.size()});
    }
  return turns;
}

bool has_turns_of(std::span<const Token> tokens, const Tokenizer& tokenizer, const ChatFormat& chat) {
  // Marks of control tokens are those tokens; their names may be quoted.
  if (!is_of_letters(tokenizer, chat.user.before)) {
    const auto mark = mark_tokens(tokenizer, chat.user.before);
    return std::search(tokens.begin(), tokens.end(), mark.begin(), mark.end()) != tokens.end();
  }
  const std::string text = tokenizer.decode(tokens);
  const auto begin = text.find(chat.user.before);
  return begin != std::string::npos && text.find(chat.user.after, begin + chat.user.before.size()) != std::string::npos;
}

std::vector<ShownTurn> shown_turns(std::span<const Token> tokens, const Tokenizer& tokenizer, const ChatFormat& chat) {
  const auto turns = find_turns(tokens, tokenizer, chat);
  std::vector<ShownTurn> shown;
  const auto add_other = [&](std::span<const Token> rest) {
    const auto says = [&](Token token) {
      const auto bytes = tokenizer.bytes(token);
      return !tokenizer.special(bytes) && bytes.find_first_not_of(" \n") != std::string_view::npos;
    };
    if (std::ranges::any_of(rest, says)) shown.push_back({"other", tokenizer.decode(rest)});
  };
  if (!turns.empty()) add_other(tokens.first(turns.front().begin));
  for (std::size_t i = 0; i < turns.size(); ++i) {
    const auto& format = turns[i].role == "system" ? chat.system : turns[i].role == "user" ? chat.user : chat.assistant;
    const auto all =
        tokens.subspan(turns[i].text, (i + 1 < turns.size() ? turns[i + 1].begin : tokens.size()) - turns[i].text);
    const auto end = std::ranges::find_if(all, [&](Token token) { return tokenizer.ends_turn(token); });
    const auto said = all.first(static_cast<std::size_t>(end - all.begin()));
    std::string text = tokenizer.decode(said);
    // Where a token ends the turn, what looks like its end before that was said.
    const bool ends_in_letters = end == all.end() && !format.after.empty() && text.ends_with(format.after);
    if (ends_in_letters) text.erase(text.size() - format.after.size());
    if (text.starts_with('\n')) text.erase(0, 1);
    shown.push_back({std::string(turns[i].role), std::move(text)});
    const auto rest = all.subspan(said.size());
    if (!rest.empty() && tokenizer.decode(rest) != format.after) add_other(rest.subspan(1));
  }
  return shown;
}

std::optional<Shortened> without_oldest(std::span<const Token> tokens, std::span<const std::size_t> users,
                                        std::size_t most) {
  for (std::size_t turn = 1; turn < users.size(); ++turn) {
    const std::size_t left_out = users[turn] - users[0];
    if (tokens.size() - left_out > most) continue;
    Shortened shortened{{tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(users[0])}, left_out};
    const auto rest = tokens.subspan(users[turn]);
    shortened.tokens.insert(shortened.tokens.end(), rest.begin(), rest.end());
    return shortened;
  }
  return std::nullopt;
}

}  // namespace krul
