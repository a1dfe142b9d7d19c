#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>

#include "krul/core/clock.hpp"
#include "krul/eval/coding_probe.hpp"
#include "krul/strategy/catalogue/krul_codec.hpp"
#include "krul/strategy/strategy_codings.hpp"
#include "machine_costs.hpp"
#include "make_profile.hpp"
#include "number_option.hpp"
#include "profile_option.hpp"
#include "texts.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

struct CalibrateOptions {
  ModelOptions model;
  StoreOptions store;
  bool machine = false;
  std::vector<std::string> conversations;
  std::vector<std::string> without;
  std::string out;
  bool if_missing = false;
  std::vector<std::size_t> groups;
  std::size_t tokens = WritingSettings{}.tokens;
  std::uint64_t seed = 0;
  bool no_features = false;
  PatienceOption patience{calibration_patience_s};
};

/// The files' conversations, or without files the texts that the model writes itself.
std::vector<std::vector<Token>> texts_of(const CalibrateOptions& options, const CalibrationSettings& settings,
                                         LoadedModel& model, const Tool& tool) {
  if (options.conversations.empty()) {
    WritingSettings writing{.tokens = options.tokens, .text = settings.conversation};
    writing.sampling.seed = options.seed;
    return written_texts(model, writing, tool);
  }
  std::vector<std::vector<Token>> texts;
  for (const auto& text : load_conversations(options.conversations)) {
    if (std::find(options.without.begin(), options.without.end(), text.source) != options.without.end()) continue;
    if (tokens_looked_at(texts, settings) >= options.tokens) break;
    texts.push_back(encode_messages(model, text.messages, false));
  }
  return texts;
}

void calibrate_model(const CalibrateOptions& options, const Tool& tool) {
  const SteadyClock clock;
  const TimePoint start = clock.now();
  options.model.expect_processor("fitting a profile");
  auto model = options.model.load(tool);
  if (options.if_missing)
    if (const auto kept = ProfileOption{}.load(model, tool)) {
      if (tool.json)
        tool.print({{"profile", profile_file(model).string()}, {"hash", kept->hash()}});
      else
        tool.say("the model's profile is there already: " + profile_file(model).string());
      return;
    }
  CalibrationSettings settings;
  if (!options.groups.empty()) settings.groups = options.groups;
  settings.features = !options.no_features;
  const auto texts = texts_of(options, settings, model, tool);
  const double written_s = seconds(clock.now() - start);
  const std::size_t tokens = tokens_looked_at(texts, settings);
  const std::filesystem::path file = options.out.empty() ? profile_file(model) : std::filesystem::path(options.out);
  const auto profile = make_profile(model, texts, settings, file, tool);
  const std::size_t bytes = serialize(profile->data()).size();
  const double taken_s = seconds(clock.now() - start);
  std::size_t columns = 0;
  for (const auto& group : profile->data().groups) columns += group.keys.columns() + group.values.columns();
  const std::span<const Token> sample(
      *std::max_element(texts.begin(), texts.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); }));
  const eval::CodingProbe probe(model.backend, profile, sample.first(std::min<std::size_t>(sample.size(), 512)));
  const Needs needs = strategy::krul_compact(profile).needs();
  const auto speed = unwrap(probe.fastest({usual_step(nominal_step(needs), needs.classes.value()), true}, 5));
  if (tool.json) {
    tool.print({{"profile", file.string()},
                {"hash", profile->hash()},
                {"bytes", bytes},
                {"columns", columns},
                {"conversations", texts.size()},
                {"tokens", tokens},
                {"writing_seconds", written_s},
                {"seconds", taken_s},
                {"encode_core_us_per_token", speed.encode_us},
                {"decode_core_us_per_token", speed.decode_us},
                {"run", describe_run(model)}});
    return;
  }
  std::printf("%zu texts, %zu tokens, %.0f s\n%zu columns for %zu values a token\n", texts.size(), tokens, taken_s,
              columns, 2 * model.backend.geometry().layers * model.backend.geometry().kv_values());
  std::printf("coding as krul-compact: %.0f us a token and core, decoding it: %.0f us\n%s: %s\n", speed.encode_us,
              speed.decode_us, escaped(file.string()).c_str(), human_bytes(static_cast<double>(bytes)).c_str());
}

}  // namespace

void add_calibrate(CLI::App& program, Tool& tool) {
  auto options = std::make_shared<CalibrateOptions>();
  auto* verb = program.add_subcommand("calibrate", "fit what coding and planning need to know");
  options->model.add_to(*verb);
  options->store.add_to(*verb);
  auto* machine =
      verb->add_flag("--machine", options->machine, "the costs of the forward pass, the codecs and the disk");
  for (const auto* option : {"--store", "--store-bytes", "--store-key", "--store-metrics"})
    verb->get_option(option)->needs(machine);
  auto* conversations = verb->add_option("--conversations", options->conversations,
                                         "fit the model's profile to these: JSON lines, one file or several; without "
                                         "them, to texts that the model writes itself");
  auto* out = verb->add_option("--out", options->out,
                               "write the profile here; without it, where every verb looks for the model's");
  auto* if_missing = verb->add_flag("--if-missing", options->if_missing, "only if the model has no profile yet");
  verb->add_option("--without", options->without, "leave out conversations of these sources")
      ->delimiter(',')
      ->needs(conversations);
  add_number(*verb, "--tokens", options->tokens, {1, 1 << 30}, "stop after so many");
  add_number(*verb, "--seed", options->seed, {0, std::numeric_limits<std::uint64_t>::max()},
             "the model writes other texts with another seed")
      ->excludes(conversations);
  verb->add_option("--groups", options->groups, "layers that are coded together: 2,4,8 means 2, 4, 8, 8, ...")
      ->delimiter(',')
      ->check(between<std::size_t>(1, 4096));
  options->patience.add_to(*verb)->needs(machine);
  verb->add_flag("--no-features", options->no_features, "do not predict rows from their tokens");
  machine->excludes(conversations)->excludes(if_missing)->excludes(out);
  for (const auto* option : {"--tokens", "--seed", "--groups", "--no-features"}) machine->excludes(option);
  if_missing->excludes(out);
  verb->callback([options, &tool] {
    if (options->machine)
      calibrate_machine(options->model, options->store, options->patience, tool);
    else
      calibrate_model(*options, tool);
  });
}

}  // namespace krul::cli
