#include "krul/model/chat_format.hpp"

namespace krul {
namespace {

using enum ChatFormat::SystemPlace;

struct Family {
  std::string_view name;
  ChatFormat format;  ///< with {bos} and {eos} for the model's tokens
};

constexpr bool trims = true;

ChatTurn turn(std::string before, std::string after, bool trim = false) {
  return {std::move(before), std::move(after), trim, trim};
}

/// Text before and after each role, where the system message stands, what a reply follows.
const std::vector<Family>& families() {
  static const std::vector<Family> all = {
      {"chatml",
       {.system = turn("<|im_start|>system\n", "<|im_end|>\n"),
        .user = turn("<|im_start|>user\n", "<|im_end|>\n"),
        .assistant = turn("<|im_start|>assistant\n", "<|im_end|>\n"),
        .generation_prompt = "<|im_start|>assistant\n",
        .system_place = anywhere,
        .any_order = true}},
      {"llama2",
       {.system = turn("<<SYS>>\n", "\n<</SYS>>\n\n"),
        .user = turn("{bos}[INST] ", " [/INST]", trims),
        .assistant = turn(" ", " {eos}", trims),
        .system_place = first_user,
        .system_keeps_front = true}},
      {"llama3",
       {.begin = "{bos}",
        .system_begin = "{bos}",
        .system = turn("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>", trims),
        .user = turn("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>", trims),
        .assistant = turn("<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", trims),
        .generation_prompt = "<|start_header_id|>assistant<|end_header_id|>\n\n",
        .system_place = anywhere,
        .any_order = true}},
      {"mistral-v1",
       {.begin = "{bos}",
        .system_begin = "{bos}",
        .system = turn("", "\n\n"),
        .user = turn(" [INST] ", " [/INST]"),
        .assistant = turn(" ", "{eos}"),
        .system_place = first_user}},
      {"mistral-v3",
       {.begin = "{bos}",
        .system_begin = "{bos}",
        .system = turn("", "\n\n"),
        .user = turn("[INST] ", "[/INST]"),
        .assistant = turn(" ", "{eos}", trims),
        .system_place = last_user}},
      {"mistral-v3-tekken",
       {.begin = "{bos}",
        .system_begin = "{bos}",
        .system = turn("", "\n\n"),
        .user = turn("[INST]", "[/INST]"),
        .assistant = turn("", "{eos}"),
        .system_place = last_user}},
      {"zephyr",
       {.system = turn("<|system|>\n", "{eos}\n"),
        .user = turn("<|user|>\n", "{eos}\n"),
        .assistant = turn("<|assistant|>\n", "{eos}\n"),
        .generation_prompt = "<|assistant|>\n",
        .system_place = anywhere,
        .any_order = true}},
      {"gemma",
       {.begin = "{bos}",
        .user = turn("<start_of_turn>user\n", "<end_of_turn>\n", trims),
        .assistant = turn("<start_of_turn>model\n", "<end_of_turn>\n", trims),
        .generation_prompt = "<start_of_turn>model\n"}},
      {"phi3",
       {.system = turn("<|system|>\n", "<|end|>\n"),
        .user = turn("<|user|>\n", "<|end|>\n"),
        .assistant = turn("<|assistant|>\n", "<|end|>\n"),
        .generation_prompt = "<|assistant|>\n",
        .system_place = anywhere,
        .any_order = true}},
      {"deepseek-llm",
       {.begin = "{bos}",
        .system_begin = "{bos}",
        .system = turn("", "\n\n"),
        .user = turn("User: ", "\n\n"),
        .assistant = turn("Assistant: ", "{eos}"),
        .generation_prompt = "Assistant:",
        .system_place = anywhere,
        .any_order = true}},
      {"deepseek-v3",
       {.begin = "{bos}",
        .system_begin = "{bos}",
        .user = turn("<｜User｜>", ""),
        .assistant = turn("<｜Assistant｜>", "{eos}"),
        .generation_prompt = "<｜Assistant｜>",
        .system_place = first,
        .any_order = true}}};
  return all;
}

void replace(std::string& text, std::string_view from, std::string_view to) {
  for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

}  // namespace

std::vector<std::string_view> chat_families() {
  std::vector<std::string_view> names;
  for (const auto& family : families()) names.push_back(family.name);
  return names;
}

Result<ChatFormat> ChatFormat::named(std::string_view wanted, std::string_view bos, std::string_view eos) {
  std::string known;
  for (const auto& [name, format] : families()) {
    known += (known.empty() ? "" : ", ") + std::string(name);
    if (name != wanted) continue;
    ChatFormat own = format;
    for (auto* text : {&own.begin, &own.system_begin, &own.system.before, &own.system.after, &own.user.before,
                       &own.user.after, &own.assistant.before, &own.assistant.after, &own.generation_prompt}) {
      replace(*text, "{bos}", bos);
      replace(*text, "{eos}", eos);
    }
    return own;
  }
  return fail(ErrorCode::invalid_argument,
              "there is no chat template named \"" + std::string(wanted.substr(0, 64)) + "\": known are " + known);
}

}  // namespace krul
