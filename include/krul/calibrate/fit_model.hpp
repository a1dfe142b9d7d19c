#pragma once

#include <memory>
#include <span>
#include <vector>

#include "krul/calibrate/calibrate.hpp"
#include "krul/compress/joint/profile.hpp"
#include "krul/model/load.hpp"
#include "krul/model/write_texts.hpp"

namespace krul {

/// Texts for whoever has no conversations at hand: what a model writes on from beginnings of conversations. It answers
/// a user, and asks where an answer stands last.
/// @param openings  at least one, each of at least one message
/// @return          what the chat format says, if there is none for the model or it cannot render an opening
/// @throws PreconditionError as write_texts; NotFiniteError if the model's numbers are not finite
[[nodiscard]] Result<std::vector<std::vector<Token>>> written_texts(
    CpuModel& model, const ModelText& text, std::span<const std::vector<Message>> openings,
    const WritingSettings& settings, const WritingProgress& progress = [](auto...) {});
[[nodiscard]] inline Result<std::vector<std::vector<Token>>> written_texts(
    LoadedModel& model, std::span<const std::vector<Message>> openings, const WritingSettings& settings,
    const WritingProgress& progress = [](auto...) {}) {
  return written_texts(model.backend, model, openings, settings, progress);
}

/// Fits a model's profile to texts, with the model's own output matrices.
/// @return invalid_argument if no text is long enough to be looked at
/// @throws PreconditionError and NotFiniteError as calibrate_profile
[[nodiscard]] Result<std::shared_ptr<const Profile>> fit_profile(
    CpuModel& model, std::span<const std::vector<Token>> texts, const CalibrationSettings& settings = {},
    const CalibrationProgress& progress = [](auto...) {});
[[nodiscard]] inline Result<std::shared_ptr<const Profile>> fit_profile(
    LoadedModel& model, std::span<const std::vector<Token>> texts, const CalibrationSettings& settings = {},
    const CalibrationProgress& progress = [](auto...) {}) {
  return fit_profile(model.backend, texts, settings, progress);
}

/// Tokens of the texts that a profile is fitted to.
[[nodiscard]] std::size_t tokens_looked_at(std::span<const std::vector<Token>> texts,
                                           const CalibrationSettings& settings);

}  // namespace krul
