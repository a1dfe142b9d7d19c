#include "profile_option.hpp"

#include "krul/calibrate/profile_file.hpp"

namespace krul::cli {

void ProfileOption::add_to(CLI::App& verb) {
  verb.add_option("--profile", path,
                  "the model's profile, from krul calibrate; without it, the one kept for the model");
}

std::shared_ptr<const Profile> ProfileOption::load(const LoadedModel& model, const Tool& tool) const {
  const auto read = [&](const std::filesystem::path& from) {
    return read_profile(from, model.backend.geometry(), model.backend.identity());
  };
  if (!path.empty()) return unwrap(read(path));
  const auto file = kept_profile_in(cache_folder() / "profiles", model.backend.identity());
  if (!file) return nullptr;
  auto profile = read(*file);
  if (profile) return *profile;
  tool.say("going on without a profile: " + profile.error().message);
  return nullptr;
}

void say_if_missing(std::span<const AnyStrategy> strategies, const Tool& tool) {
  for (const AnyStrategy& strategy : strategies)
    if (const Needs needs = strategy.needs(); needs.profile_is_missing)
      tool.say(strategy.name() + ": there is no profile of this model, so rows are coded as " +
               needs.codings.front().coding.name() + "; krul calibrate makes one in minutes");
}

std::filesystem::path profile_file(const LoadedModel& model) {
  return profile_file_in(cache_folder() / "profiles", model.backend.identity().weights);
}

}  // namespace krul::cli
