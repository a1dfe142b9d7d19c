#pragma once

#include <memory>
#include <span>
#include <string>

#include "krul/calibrate/fit_model.hpp"
#include "krul/strategy/any_strategy.hpp"
#include "tool.hpp"

namespace krul::cli {

/// --profile
struct ProfileOption {
  std::string path;

  void add_to(CLI::App& verb);
  /// The file's profile; without one, that of the model's own file, if there is one. Ends the program if a file that
  /// was named cannot be used; says so, and goes on without, if the model's own cannot.
  [[nodiscard]] std::shared_ptr<const Profile> load(const LoadedModel& model, const Tool& tool) const;
};

/// Says which strategies code rows otherwise because there is no profile.
void say_if_missing(std::span<const AnyStrategy> strategies, const Tool& tool);

/// Where `krul calibrate` keeps a model's profile, and every verb looks for it.
[[nodiscard]] std::filesystem::path profile_file(const LoadedModel& model);

}  // namespace krul::cli
