#include "make_profile.hpp"

#include "krul/calibrate/profile_file.hpp"
#include "texts.hpp"

namespace krul::cli {

std::vector<std::vector<Token>> written_texts(LoadedModel& model, const WritingSettings& settings, const Tool& tool) {
  std::vector<std::vector<Message>> openings;
  for (auto& text : unwrap(eval::parse_conversations(embedded_openings())))
    openings.push_back(std::move(text.messages));
  auto texts = unwrap(krul::written_texts(
      on_processor(model, "writing texts"), model, openings, settings, [&](std::size_t done, std::size_t all) {
        tool.progress("writing texts: " + std::to_string(done) + " of " + std::to_string(all) + " tokens");
      }));
  tool.progress("");
  return texts;
}

std::shared_ptr<const Profile> make_profile(LoadedModel& model, std::span<const std::vector<Token>> texts,
                                            const CalibrationSettings& settings, const std::filesystem::path& file,
                                            const Tool& tool) {
  const auto progress = [&](std::string_view what, std::size_t done, std::size_t all) {
    tool.progress(std::string(what) + ": " + std::to_string(done) + " of " + std::to_string(all));
  };
  auto profile = unwrap(fit_profile(on_processor(model, "fitting a profile"), texts, settings, progress));
  tool.progress("");
  unwrap(write_profile(file, *profile));
  return profile;
}

}  // namespace krul::cli
