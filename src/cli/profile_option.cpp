#include "profile_option.hpp"

#include "krul/core/identity.hpp"

namespace krul::cli {
namespace {

Result<std::shared_ptr<const Profile>> read_profile(const std::filesystem::path& file, const LoadedModel& model) {
  const auto bytes = read_text(file);
  if (!bytes) return propagate(bytes);
  auto data = parse_profile(std::as_bytes(std::span(*bytes)));
  if (!data) return propagate(data);
  if (data->model != model.backend.identity().weights)
    return fail(ErrorCode::identity_mismatch, file.string() +
                                                  " was made for other weights: make a profile for this model "
                                                  "with krul calibrate");
  return Profile::create(std::move(*data), model.backend.geometry());
}

}  // namespace

void ProfileOption::add_to(CLI::App& verb) {
  verb.add_option("--profile", path,
                  "the model's profile, from krul calibrate; without it, the one kept for the model");
}

std::shared_ptr<const Profile> ProfileOption::load(const LoadedModel& model, const Tool& tool) const {
  if (!path.empty()) return unwrap(read_profile(path, model));
  const auto file = profile_file(model);
  if (!std::filesystem::exists(file)) return nullptr;
  auto profile = read_profile(file, model);
  if (profile) return *profile;
  tool.say("going on without a profile: " + profile.error().message);
  return nullptr;
}

void say_if_missing(const std::shared_ptr<const Profile>& profile, std::span<const Strategy> strategies,
                    const Tool& tool) {
  if (profile) return;
  for (const Strategy& strategy : strategies)
    if (strategy.step)
      tool.say(std::string(strategy.name) + ": there is no profile of this model, so rows are coded as " +
               std::string(strategy.codec) + "; krul calibrate makes one in minutes");
}

std::filesystem::path profile_file(const LoadedModel& model) {
  return cache_folder() / "profiles" / (model.backend.identity().weights + ".krulprofile");
}

}  // namespace krul::cli
