#include "krul/calibrate/fit_model.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "krul/compress/joint/profile.hpp"
#include "krul/model/decoder_file.hpp"
#include "krul/model/model_chat.hpp"

namespace krul {
namespace {

constexpr std::size_t shortest = 64;  // tokens; a shorter text is not looked at

Result<Opening> opening_of(const ModelText& text, std::span<const Message> messages) {
  if (!text.chat) return propagate(text.chat);
  const bool answers = messages.back().role == "user";
  auto rendered = text.chat->render(messages, answers);
  if (!rendered) return propagate(rendered);
  if (!answers) rendered->write(text.chat->user.before);
  return Opening{encode_conversation(text.tokenizer, *rendered), !answers};
}

/// [L][hidden, H * D]
Result<std::vector<std::vector<float>>> output_matrices(const CpuModel& model) {
  const Geometry& geometry = model.geometry();
  std::vector<std::vector<float>> outputs;
  for (const auto& layer : model.description().layers) {
    auto& values = outputs.emplace_back(geometry.hidden * geometry.query_heads * geometry.head_dim);
    if (auto status = read_rows(*layer.output, 0, values); !status) return propagate(status);
  }
  return outputs;
}

}  // namespace

Result<std::vector<std::vector<Token>>> written_texts(CpuModel& model, const ModelText& text,
                                                      std::span<const std::vector<Message>> openings,
                                                      const WritingSettings& settings,
                                                      const WritingProgress& progress) {
  std::vector<Opening> beginnings;
  for (const auto& messages : openings) {
    auto opening = opening_of(text, messages);
    if (!opening) return propagate(opening);
    beginnings.push_back(std::move(*opening));
  }
  expects(!beginnings.empty(), "written_texts: no openings");
  return write_texts(model, {beginnings, TurnMarks::of(text.tokenizer, *text.chat)}, model.workers(), settings,
                     progress);
}

Result<std::shared_ptr<const Profile>> fit_profile(CpuModel& model, std::span<const std::vector<Token>> texts,
                                                   const CalibrationSettings& settings,
                                                   const CalibrationProgress& progress) {
  if (std::ranges::none_of(texts, [](const auto& text) { return text.size() >= shortest; }))
    return fail(ErrorCode::invalid_argument, "a profile needs a text of " + std::to_string(shortest) +
                                                 " tokens at least: give longer conversations");
  const auto outputs = output_matrices(model);
  if (!outputs) return propagate(outputs);
  ProfileData data = calibrate_profile(model, {texts, *outputs}, model.workers(), settings, progress);
  const std::string looked_at =
      std::to_string(texts.size()) + " texts, " + std::to_string(tokens_looked_at(texts, settings)) + " tokens";
  data.notes = data.notes.empty() ? looked_at : looked_at + "; " + data.notes;
  return Profile::create(std::move(data), model.geometry());
}

std::size_t tokens_looked_at(std::span<const std::vector<Token>> texts, const CalibrationSettings& settings) {
  std::size_t tokens = 0;
  for (const auto& text : texts) tokens += std::min(text.size(), settings.conversation);
  return tokens;
}

}  // namespace krul
