#include "make_profile.hpp"

#include <algorithm>

#include "krul/compress/joint/profile.hpp"
#include "krul/model/decoder_file.hpp"
#include "krul/model/model_chat.hpp"
#include "krul/store/private_folders.hpp"
#include "output_file.hpp"
#include "texts.hpp"

namespace krul::cli {
namespace {

/// The text up to where the model goes on: it answers a user, and asks where an answer stands last.
Opening opening_of(const LoadedModel& model, const ConversationText& text) {
  const bool answers = text.messages.back().role == "user";
  const ChatFormat& chat = chat_format(model);
  RenderedText rendered = unwrap(chat.render(text.messages, answers));
  if (!answers) rendered.write(chat.user.before);
  return {encode_conversation(model.tokenizer, rendered), !answers};
}

/// [L][hidden, H * D]
std::vector<std::vector<float>> output_matrices(const LoadedModel& model) {
  const Geometry& geometry = model.backend.geometry();
  std::vector<std::vector<float>> outputs;
  for (const auto& layer : model.backend.description().layers) {
    auto& values = outputs.emplace_back(geometry.hidden * geometry.query_heads * geometry.head_dim);
    unwrap(read_rows(*layer.output, 0, values));
  }
  return outputs;
}

}  // namespace

std::vector<std::vector<Token>> written_texts(LoadedModel& model, const WritingSettings& settings, const Tool& tool) {
  std::vector<Opening> openings;
  for (const auto& text : unwrap(parse_conversations(embedded_openings()))) openings.push_back(opening_of(model, text));
  auto texts =
      write_texts(model.backend, {openings, TurnMarks::of(model.tokenizer, chat_format(model))},
                  model.backend.workers(), settings, [&](std::size_t done, std::size_t all) {
                    tool.progress("writing texts: " + std::to_string(done) + " of " + std::to_string(all) + " tokens");
                  });
  tool.progress("");
  return texts;
}

std::shared_ptr<const Profile> make_profile(LoadedModel& model, std::span<const std::vector<Token>> texts,
                                            const CalibrationSettings& settings, const std::filesystem::path& file,
                                            const Tool& tool) {
  constexpr std::size_t shortest = 64;  // tokens; a shorter text is not looked at
  if (std::ranges::none_of(texts, [](const auto& text) { return text.size() >= shortest; }))
    throw Failure({ErrorCode::invalid_argument, "a profile needs a text of " + std::to_string(shortest) +
                                                    " tokens at least: give longer conversations"});
  const auto outputs = output_matrices(model);
  ProfileData data =
      calibrate_profile(model.backend, {texts, outputs}, model.backend.workers(), settings,
                        [&](std::string_view what, std::size_t done, std::size_t all) {
                          tool.progress(std::string(what) + ": " + std::to_string(done) + " of " + std::to_string(all));
                        });
  tool.progress("");
  data.notes =
      std::to_string(texts.size()) + " texts, " + std::to_string(tokens_looked_at(texts, settings)) + " tokens";
  auto profile = unwrap(Profile::create(std::move(data), model.backend.geometry()));
  const auto bytes = serialize(profile->data());
  if (file.has_parent_path()) unwrap(make_private_folders(file.parent_path()));
  write_file(file, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  return profile;
}

std::size_t tokens_looked_at(std::span<const std::vector<Token>> texts, const CalibrationSettings& settings) {
  std::size_t tokens = 0;
  for (const auto& text : texts) tokens += std::min(text.size(), settings.conversation);
  return tokens;
}

}  // namespace krul::cli
