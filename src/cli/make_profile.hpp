#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "krul/calibrate/fit_model.hpp"
#include "tool.hpp"

namespace krul::cli {

/// The program's own openings, and what the model writes on from them: texts for whoever has no conversations at hand.
[[nodiscard]] std::vector<std::vector<Token>> written_texts(LoadedModel& model, const WritingSettings& settings,
                                                            const Tool& tool);

/// Fits the model's profile to texts and writes it to the file. Ends the program if it cannot.
std::shared_ptr<const Profile> make_profile(LoadedModel& model, std::span<const std::vector<Token>> texts,
                                            const CalibrationSettings& settings, const std::filesystem::path& file,
                                            const Tool& tool);

}  // namespace krul::cli
