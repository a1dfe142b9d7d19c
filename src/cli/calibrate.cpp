#include "krul/calibrate/calibrate.hpp"

#include <algorithm>
#include <cstdio>
#include <memory>

#include "coding_probe.hpp"
#include "krul/conversation/strategy.hpp"
#include "krul/core/clock.hpp"
#include "krul/model/decoder_file.hpp"
#include "machine_costs.hpp"
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
  std::vector<std::size_t> groups;
  std::size_t tokens = 50000;
  bool no_features = false;
  PatienceOption patience{calibration_patience_s};
};

/// [L][hidden, H * D]
std::vector<std::vector<float>> output_matrices(const std::string& path, const Geometry& geometry) {
  const auto file = unwrap(GgufFile::open(path));
  const auto decoder = unwrap(DecoderFile::read(file, geometry.cache_type));
  std::vector<std::vector<float>> outputs;
  for (const auto& layer : decoder.layers) {
    auto& values = outputs.emplace_back(geometry.hidden * geometry.query_heads * geometry.head_dim);
    unwrap(read_rows(*layer.output, 0, values));
  }
  return outputs;
}

void calibrate_model(const CalibrateOptions& options, const Tool& tool) {
  const SteadyClock clock;
  const TimePoint start = clock.now();
  auto model = options.model.load(tool);
  CalibrationSettings settings;
  if (!options.groups.empty()) settings.groups = options.groups;
  settings.features = !options.no_features;
  std::vector<std::vector<Token>> conversations;
  std::size_t tokens = 0;
  for (const auto& text : load_conversations(options.conversations)) {
    if (std::find(options.without.begin(), options.without.end(), text.source) != options.without.end()) continue;
    if (tokens >= options.tokens) break;
    conversations.push_back(encode_messages(model, text.messages, false));
    tokens += std::min(conversations.back().size(), settings.conversation);
  }
  const auto outputs = output_matrices(options.model.file().string(), model.backend.geometry());
  ProfileData data =
      calibrate_profile(model.backend, {conversations, outputs}, model.backend.workers(), settings,
                        [&](std::string_view what, std::size_t done, std::size_t all) {
                          tool.progress(std::string(what) + ": " + std::to_string(done) + " of " + std::to_string(all));
                        });
  tool.progress("");
  data.model = model.backend.identity().weights;
  data.notes = std::to_string(conversations.size()) + " conversations, " + std::to_string(tokens) + " tokens";
  const auto profile = unwrap(Profile::create(data, model.backend.geometry()));
  const auto bytes = serialize(profile->data());
  const std::filesystem::path file = options.out.empty() ? profile_file(model) : std::filesystem::path(options.out);
  std::error_code ignored;
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), ignored);
  write_file(file, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  const double taken_s = seconds(clock.now() - start);
  std::size_t columns = 0;
  for (const auto& group : profile->data().groups) columns += group.keys.columns() + group.values.columns();
  const std::span<const Token> sample(*std::max_element(
      conversations.begin(), conversations.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); }));
  const CodingProbe probe(model, profile, sample.first(std::min<std::size_t>(sample.size(), 512)));
  CodingFigures speed = probe.run(step_of_compact);
  for (int round = 0; round < 4; ++round) {
    const CodingFigures again = probe.run(step_of_compact);
    speed.encode_us = std::min(speed.encode_us, again.encode_us);
    speed.decode_us = std::min(speed.decode_us, again.decode_us);
  }
  if (tool.json) {
    tool.print({{"profile", file.string()},
                {"hash", profile->hash()},
                {"bytes", bytes.size()},
                {"columns", columns},
                {"conversations", conversations.size()},
                {"tokens", tokens},
                {"seconds", taken_s},
                {"encode_core_us_per_token", speed.encode_us},
                {"decode_core_us_per_token", speed.decode_us},
                {"run", describe_run(model)}});
    return;
  }
  std::printf("%zu conversations, %zu tokens, %.0f s\n%zu columns for %zu values a token\n", conversations.size(),
              tokens, taken_s, columns, 2 * model.backend.geometry().layers * model.backend.geometry().kv_values());
  std::printf("coding as krul-compact: %.0f us a token and core, undoing it: %.0f us\n%s: %s\n", speed.encode_us,
              speed.decode_us, file.c_str(), human_bytes(static_cast<double>(bytes.size())).c_str());
}

}  // namespace

void add_calibrate(CLI::App& program, Tool& tool) {
  auto options = std::make_shared<CalibrateOptions>();
  auto* verb = program.add_subcommand("calibrate", "fit what coding and planning need to know");
  options->model.add_to(*verb);
  options->store.add_to(*verb);
  auto* machine =
      verb->add_flag("--machine", options->machine, "the costs of the forward pass, the codecs and the disk");
  auto* conversations = verb->add_option("--conversations", options->conversations,
                                         "fit the model's profile to these: JSON lines, one file or several");
  verb->add_option("--out", options->out, "write the profile here; without it, where every verb looks for the model's");
  verb->add_option("--without", options->without, "leave out conversations of these sources")->delimiter(',');
  verb->add_option("--tokens", options->tokens, "stop after so many")->capture_default_str();
  verb->add_option("--groups", options->groups, "layers that are coded together: 2,4,8 means 2, 4, 8, 8, ...")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096));
  options->patience.add_to(*verb)->needs(machine);
  verb->add_flag("--no-features", options->no_features, "do not predict rows from their tokens");
  machine->excludes(conversations);
  verb->callback([options, &tool] {
    if (options->machine) {
      calibrate_machine(options->model, options->store, options->patience, tool);
    } else if (options->conversations.empty()) {
      throw Failure({ErrorCode::invalid_argument,
                     "say what to calibrate: --conversations FILE for the model, or --machine for its costs here"});
    } else {
      calibrate_model(*options, tool);
    }
  });
}

}  // namespace krul::cli
