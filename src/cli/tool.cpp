#include "tool.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <system_error>

#include "device_name.hpp"
#include "krul/eval/machine_load.hpp"
#include "krul/model/model_chat.hpp"
#include "number_option.hpp"
#include "revision.hpp"

namespace krul::cli {

void Tool::progress(const std::string& text) const {
  if (isatty(STDERR_FILENO)) {
    std::fprintf(stderr, "\r\033[K%s", escaped(text).c_str());
  } else if (!text.empty()) {
    if (const auto line = lines_.report(escaped(text))) std::fprintf(stderr, "%s\n", line->c_str());
  }
}

void Tool::end_progress() const {
  progress("");
  if (const auto line = lines_.finish()) std::fprintf(stderr, "%s\n", line->c_str());
}

void Tool::say(const std::string& text) const {
  end_progress();
  std::fprintf(stderr, "%s\n", escaped(text, Lines::many).c_str());
}

void Tool::print_error(std::string_view code, const std::string& message) const {
  result_["error"] = {{"code", code}, {"message", message}};
}

void Tool::write_result() const {
  if (result_.is_null()) return;
  std::cout << result_.dump(2, ' ', false, Json::error_handler_t::replace) << std::endl;
}

void ModelOptions::add_file_to(CLI::App& verb) {
  verb.add_option("--model", path, "GGUF file; without it, the one that scripts/fetch_models brought");
}

void ModelOptions::add_template_to(CLI::App& verb) {
  verb.add_option("--chat-template", chat_template, "family of the model's chat template, in place of its own")
      ->check(CLI::IsMember(chat_families()));
}

void ModelOptions::add_to(CLI::App& verb) {
  add_file_to(verb);
  add_device(verb, device);
  add_number(verb, "--threads", threads, {0, most_threads}, "cores to use; 0 means all");
  add_choice(verb, "--kernels", kernels, {"eigen", "onednn", "krul", "auto"},
             "matrix kernels: eigen, onednn, krul or auto");
  add_choice(verb, "--precision", precision, {"f32", "bf16", "f16", "int8", "auto"},
             "arithmetic of the matrices: f32, bf16, int8 or auto; on a device f32, bf16, f16 or auto (bf16)");
  add_choice(verb, "--cache", cache, {"f32", "f16", "bf16", "auto"},
             "element type of the KV cache: f32, f16, bf16 or auto (f32 with --precision f32, else f16)");
  add_template_to(verb);
}

void ModelOptions::add_context_to(CLI::App& verb) {
  verb.add_option("--context", context, "longest conversation in tokens; without it, as long as the model's file says")
      ->check(between<std::size_t>(1, 1 << 30));
}

std::filesystem::path ModelOptions::file() const {
  if (!path.empty()) return path;
  const auto file = cache_folder() / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(file))
    throw Failure({ErrorCode::not_found, "no model: give --model FILE.gguf, or run scripts/fetch_models once"});
  return file;
}

std::filesystem::path cache_folder() {
  if (const char* own = std::getenv("KRUL_CACHE"); own && *own) return own;
  if (const char* shared = std::getenv("XDG_CACHE_HOME"); shared && *shared)
    return std::filesystem::path(shared) / "krul";
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home && *home ? home : ".") / ".cache" / "krul";
}

const ChatFormat& chat_format(const ModelText& model) {
  if (!model.chat) throw Failure(model.chat.error());
  return *model.chat;
}

std::vector<Token> encode_raw(const ModelText& model, std::string_view text) {
  return encode_conversation(model.tokenizer, RenderedText().write(text));
}

std::vector<Token> encode_messages(const ModelText& model, std::span<const Message> messages,
                                   bool add_generation_prompt) {
  return encode_conversation(model.tokenizer, unwrap(chat_format(model).render(messages, add_generation_prompt)));
}

Json describe_run(const LoadedModel& model) {
  const auto machine = eval::describe_machine();
  Json run = {{"model", model.name},
              {"kernels", model.backend.identity().kernels},
              {"cache", name(model.backend.geometry().cache_type)},
              {"threads", model.threads},
              {"processor", machine.processor},
              {"revision", revision()}};
  if (!model.device.empty()) run["device"] = model.device;
  return run;
}

}  // namespace krul::cli
