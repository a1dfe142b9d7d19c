#include "krul/model/model_chat.hpp"

#include <algorithm>
#include <optional>

#include "krul/model/chat_turns.hpp"

namespace krul {
namespace {

/// The name of the token that a key of the file gives; empty if there is none.
std::string token_name(const GgufFile& file, const Tokenizer& tokenizer, const char* key) {
  const auto token = file.unsigned_value(key);
  return token && *token < tokenizer.size() ? std::string(tokenizer.bytes(static_cast<Token>(*token))) : std::string();
}

tl::unexpected<Error> refuse(ErrorCode code, const std::string& why) {
  std::string names;
  for (const auto name : chat_families()) names += (names.empty() ? "" : ", ") + std::string(name);
  return fail(code, why + ": say with --chat-template which one it is, if it is one of " + names);
}

/// Whether the text is written like a token of a chat. Zephyr's models spell their marks of roles in letters.
bool is_mark(std::string_view text) {
  for (const auto letters : {"<|system|>", "<|user|>", "<|assistant|>"})
    if (text == letters) return false;
  return text.find_first_of(" \n\t") == std::string_view::npos;
}

/// A mark of the format that is no token.
std::optional<std::string> missing_mark(const ChatFormat& format, const Tokenizer& tokenizer) {
  constexpr std::pair<std::string_view, std::string_view> brackets[] = {
      {"<|", "|>"}, {"<｜", "｜>"}, {"<start_of_", ">"}, {"<end_of_", ">"}};
  for (const auto* text : {&format.system.before, &format.user.before, &format.user.after, &format.assistant.before,
                           &format.assistant.after, &format.generation_prompt})
    for (const auto& [open, close] : brackets)
      for (auto at = text->find(open); at != std::string::npos; at = text->find(open, at + 1)) {
        const auto end = text->find(close, at + open.size());
        if (end == std::string::npos) break;
        const auto mark = text->substr(at, end + close.size() - at);
        if (is_mark(mark) && !tokenizer.special(mark)) return mark;
      }
  return std::nullopt;
}

Result<ChatFormat> format_of(const GgufFile& file, const Tokenizer& tokenizer, std::string_view family) {
  const auto bos = token_name(file, tokenizer, "tokenizer.ggml.bos_token_id");
  const auto eos = token_name(file, tokenizer, "tokenizer.ggml.eos_token_id");
  if (!family.empty()) return ChatFormat::named(family, bos, eos);
  if (!file.has("tokenizer.chat_template")) {
    if (tokenizer.special("<|im_start|>") && tokenizer.special("<|im_end|>"))
      return ChatFormat::named("chatml", bos, eos);
    return refuse(ErrorCode::unsupported, file.path() + " has no chat template");
  }
  const auto source = file.string_value("tokenizer.chat_template");
  if (!source) return propagate(source);
  auto learnt = ChatFormat::from_template(*source, bos, eos);
  if (!learnt) return refuse(learnt.error().code, file.path() + ": " + learnt.error().message);
  return learnt;
}

}  // namespace

Result<ChatFormat> chat_format_of(const GgufFile& file, Tokenizer& tokenizer, std::string_view family) {
  auto format = format_of(file, tokenizer, family);
  if (!format) return format;
  if (const auto mark = missing_mark(*format, tokenizer))
    return refuse(ErrorCode::unsupported,
                  "the chat template writes " + *mark + ", which is no token of " + file.path());
  for (const auto* text :
       {&format->begin, &format->system_begin, &format->system.before, &format->system.after, &format->user.before,
        &format->user.after, &format->assistant.before, &format->assistant.after, &format->generation_prompt})
    tokenizer.reserve(*text);
  const auto end = tokenizer.first_special(format->assistant.after);
  if (!end) return refuse(ErrorCode::unsupported, "no token ends a reply in the chat template of " + file.path());
  tokenizer.add_turn_end(*end);
  format->turn_end = tokenizer.bytes(*end);
  return format;
}

HeldFormats held_formats(const GgufFile& file, Tokenizer tokenizer, std::span<const Token> tokens) {
  const auto is_held_in = [&](std::string_view family) {
    const auto format = chat_format_of(file, tokenizer, family);
    return format && has_turns_of(tokens, tokenizer, *format);
  };
  HeldFormats held{{}, is_held_in("")};
  for (const auto family : chat_families())
    if (is_held_in(family)) held.families.push_back(family);
  return held;
}

std::vector<Token> encode_conversation(const Tokenizer& tokenizer, const RenderedText& text) {
  auto tokens = tokenizer.encode(text);
  if (const auto begin = tokenizer.text_begin(); begin && (tokens.empty() || tokens.front() != *begin))
    tokens.insert(tokens.begin(), *begin);
  return tokens;
}

Token turn_end(const Tokenizer& tokenizer, const ChatFormat& format) {
  const auto end = tokenizer.special(format.turn_end);
  expects(end.has_value(), "turn_end: the format ends replies with no token of this tokenizer");
  return *end;
}

std::vector<Token> encode_next_turn(const Tokenizer& tokenizer, const ChatFormat& format, std::span<const Token> before,
                                    std::string_view user_text) {
  expects(!before.empty(), "encode_next_turn: no conversation");
  const bool ended = before.back() == turn_end(tokenizer, format);
  while (!ended && !before.empty() && tokenizer.ends_turn(before.back())) before = before.first(before.size() - 1);
  std::vector<Token> tokens(before.begin(), before.end());
  const auto more = tokenizer.encode(
      format.render_next_turn(user_text, ended ? ChatFormat::Reply::ended : ChatFormat::Reply::cut_short));
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

}  // namespace krul
