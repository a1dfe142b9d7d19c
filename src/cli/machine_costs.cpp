#include "machine_costs.hpp"

#include <array>
#include <chrono>
#include <fstream>
#include <numeric>

#include "krul/compress/chunk_coding.hpp"
#include "krul/compress/token_features.hpp"
#include "krul/restore/measure_costs.hpp"
#include "krul/select/fixed_pairs.hpp"
#include "krul/select/strategy_selector.hpp"
#include "krul/store/checksum.hpp"
#include "krul/store/memory_store.hpp"
#include "page_cache.hpp"

namespace krul::cli {
namespace {

/// Times reads of two sizes from a store; `cold` runs before each pass.
template <ConversationStore S, class Cold>
LinkCosts measure_link(S& store, Cold&& cold) {
  constexpr std::size_t total = 32U << 20;
  const std::string key = std::string(32, '0') + "/calibration";
  std::vector<std::byte> bytes(total, std::byte{0x5a});
  unwrap(store.put(key, bytes));
  const SteadyClock clock;
  // One request of a layer's size and one of a block's: their difference is the rate, the rest the latency.
  const auto pass = [&](std::size_t request) {
    double best = 0;
    for (int repeat = 0; repeat < 3; ++repeat) {
      cold();
      const TimePoint start = clock.now();
      for (std::size_t at = 0; at + request <= total; at += request) {
        const auto part = std::span(bytes).subspan(at, request);
        unwrap(store.get(key, at, part));
        static_cast<void>(checksum(part));
      }
      const double taken = seconds(clock.now() - start) / static_cast<double>(total / request);
      best = repeat == 0 ? taken : std::min(best, taken);
    }
    return best;
  };
  constexpr std::size_t small = 32U << 10, large = 512U << 10;
  const std::array sizes{static_cast<double>(small), static_cast<double>(large)};
  const std::array times{pass(small), pass(large)};
  unwrap(store.erase(key));
  const Line line = fit_line(sizes, times);
  return {.latency_s = line.constant, .bytes_per_s = 1 / std::max(line.slope, 1e-12), .core_s_per_byte = 0};
}

Json to_json(const LinkCosts& link) {
  return {{"latency_s", link.latency_s}, {"bytes_per_s", link.bytes_per_s}, {"core_s_per_byte", link.core_s_per_byte}};
}

LinkCosts link_from(const Json& json) {
  return {json.at("latency_s").get<double>(), json.at("bytes_per_s").get<double>(),
          json.at("core_s_per_byte").get<double>()};
}

Json to_json(const MachineCosts& costs) {
  return {{"layer",
           {{"call_s", costs.layer.call_s},
            {"project_row_s", costs.layer.project_row_s},
            {"finish_row_s", costs.layer.finish_row_s},
            {"attend_pair_s", costs.layer.attend_pair_s},
            {"attend_key_s", costs.layer.attend_key_s}}},
          {"pass_s", costs.pass_s},
          {"decode_row_s", costs.decode_row_s},
          {"disk", to_json(costs.disk)},
          {"memory", to_json(costs.memory)},
          {"measured_s", costs.measured_s}};
}

MachineCosts costs_from(const Json& json) {
  MachineCosts costs;
  const Json& layer = json.at("layer");
  costs.layer.call_s = layer.at("call_s").get<double>();
  costs.layer.project_row_s = layer.at("project_row_s").get<double>();
  costs.layer.finish_row_s = layer.at("finish_row_s").get<double>();
  costs.layer.attend_pair_s = layer.at("attend_pair_s").get<double>();
  costs.layer.attend_key_s = layer.at("attend_key_s").get<double>();
  costs.pass_s = json.at("pass_s").get<double>();
  costs.decode_row_s = json.at("decode_row_s").get<std::map<std::string, double>>();
  costs.disk = link_from(json.at("disk"));
  costs.memory = link_from(json.at("memory"));
  costs.measured_s = json.at("measured_s").get<double>();
  return costs;
}

}  // namespace

Costs MachineCosts::costs(const LinkName& link, std::string_view codec) const {
  Costs result{.link = {}, .layer = layer, .pass_s = pass_s};
  const auto decode = decode_row_s.find(std::string(codec));
  result.layer.decode_row_s = decode == decode_row_s.end() ? 0 : decode->second;
  expects(link.kind != LinkName::Kind::relative, "MachineCosts: the relative link must be resolved first");
  if (link.kind == LinkName::Kind::rate) {
    // The link's bucket fills up while a request waits, so that requests one after another lose no time.
    result.link = {0, link.bytes_per_s, memory.core_s_per_byte};
  } else {
    result.link = link.kind == LinkName::Kind::disk ? disk : memory;
  }
  return result;
}

Costs MachineCosts::costs(const LinkName& link, const Strategy& strategy, const Geometry& geometry) const {
  Costs result = costs(link, strategy.step && decode_row_s.contains("profile") ? "profile" : strategy.codec);
  const auto merged = decode_row_s.find("merged");
  if (strategy.pairs != PairChoice::none && merged != decode_row_s.end()) {
    const auto layers = static_cast<double>(geometry.layers);
    const double share =
        2 * static_cast<double>(StrategySelector<NoSharing>::pairs_for(geometry.layers, 0.75)) / layers;
    result.layer.decode_row_s += share * (merged->second - result.layer.decode_row_s);
  }
  return result;
}

LinkName MachineCosts::resolved(const LinkName& link, const Geometry& geometry, std::size_t history,
                                std::size_t prompt) const {
  if (link.kind != LinkName::Kind::relative) return link;
  RestoreSizes sizes = sizes_if_stored(history, 64, geometry.layers, {}, {});
  sizes.prompt = prompt;
  const Costs any{.link = {}, .layer = layer, .pass_s = pass_s};
  const double recompute_s = Predictor(sizes, any)(std::vector<std::size_t>(geometry.layers, history)).cores_s;
  const double rate = static_cast<double>(history * geometry.f16_token_bytes()) * link.factor / recompute_s;
  return {link.text + " (" + human_bytes(rate) + "/s)", LinkName::Kind::rate, rate, link.factor};
}

std::filesystem::path machine_costs_file(const LoadedModel& model) {
  const Identity& identity = model.backend.identity();
  const std::string what =
      identity.weights + identity.geometry + identity.kernels + identity.processor + identity.threads;
  return cache_folder() / "costs" / (hexadecimal(checksum(std::as_bytes(std::span(what)))) + ".json");
}

MachineCosts measure_machine_costs(LoadedModel& model, const std::filesystem::path& store_folder, const Tool& tool) {
  const SteadyClock clock;
  const TimePoint start = clock.now();
  MachineCosts costs;
  tool.progress("measuring the forward pass");
  const auto compute = measure_compute_costs(model.backend);
  costs.layer = compute.layer;
  costs.pass_s = compute.pass_s;
  tool.progress("measuring codecs and links");
  Workers workers(model.backend.workers().threads());
  for (const AnyRowCodec& codec : AnyRowCodec::all())
    costs.decode_row_s[std::string(codec.name())] =
        measure_decode_row_s(model.backend.geometry(), ChunkCoding(Separate{}, codec), workers);
  costs.decode_row_s["merged"] =
      measure_decode_row_s(model.backend.geometry(), ChunkCoding(SlerpMerge{}, F16Codec{}), workers);
  MemoryStore memory;
  costs.memory = measure_link(memory, [] {});
  auto disk = unwrap(FileStore::open(store_folder));
  costs.disk = measure_link(disk, [&] { drop_from_page_cache(store_folder / std::string(32, '0')); });
  // A read is copied and checked by a core that the other lane would use; the two lanes share them all.
  const double core_s_per_byte = 1 / costs.memory.bytes_per_s / static_cast<double>(model.backend.workers().threads());
  costs.memory.core_s_per_byte = costs.disk.core_s_per_byte = core_s_per_byte;
  costs.measured_s = seconds(clock.now() - start);
  tool.progress("");
  return costs;
}

MachineCosts read_machine_costs(const std::filesystem::path& file) {
  const auto json = Json::parse(unwrap(read_text(file)), nullptr, false);
  try {
    if (!json.is_discarded()) return costs_from(json);
  } catch (const nlohmann::json::exception&) {
    // Some other JSON.
  }
  throw Failure({ErrorCode::corrupt, file.string() + " holds no costs; krul calibrate --machine writes them"});
}

void save_machine_costs(const MachineCosts& costs, const std::filesystem::path& file) {
  std::error_code error;
  std::filesystem::create_directories(file.parent_path(), error);
  const auto temporary = file.string() + ".new";
  std::ofstream out(temporary);
  out << to_json(costs).dump(2) << "\n";
  out.close();
  if (out) std::filesystem::rename(temporary, file, error);
  if (!out || error)
    throw Failure(
        {ErrorCode::io, "cannot write " + file.string() + "; set KRUL_CACHE to a folder that can be written"});
}

MachineCosts machine_costs(LoadedModel& model, const Tool& tool) {
  const auto file = machine_costs_file(model);
  if (std::filesystem::exists(file)) {
    const auto text = read_text(file);
    const auto json = Json::parse(text.value_or(""), nullptr, false);
    try {
      if (!json.is_discarded()) return costs_from(json);
    } catch (const nlohmann::json::exception&) {
      // Damaged or of an older version: measured again below.
    }
  }
  tool.say("measuring this machine once (krul calibrate --machine does it again)");
  const auto costs = measure_machine_costs(model, cache_folder() / "conversations", tool);
  save_machine_costs(costs, file);
  return costs;
}

void measure_profile_costs(MachineCosts& costs, LoadedModel& model, const std::shared_ptr<const Profile>& profile) {
  if (!profile) return;
  constexpr std::size_t rows = 64;
  const Geometry& geometry = model.backend.geometry();
  std::vector<Token> tokens(rows);
  std::iota(tokens.begin(), tokens.end(), Token{0});
  const TokenFeatures features = profile->data().features > 0 ? token_features(model.backend, tokens) : TokenFeatures{};
  Workers workers(model.backend.workers().threads());
  double all_layers_s = 0;
  for (std::size_t i = 0; i < profile->data().groups.size(); ++i)
    all_layers_s += measure_decode_row_s(geometry, ChunkCoding(JointTransform(profile, i), ExactCodec{}), workers,
                                         features.of({0, rows})) *
                    static_cast<double>(profile->data().groups[i].layers);
  costs.decode_row_s["profile"] = all_layers_s / static_cast<double>(geometry.layers);
}

void calibrate_machine(const ModelOptions& which, const StoreOptions& store, const Tool& tool) {
  auto model = which.load(tool);
  const auto folder =
      store.path.empty() ? cache_folder() / "conversations" : std::filesystem::path(store.path);
  const auto costs = measure_machine_costs(model, folder, tool);
  const auto file = machine_costs_file(model);
  save_machine_costs(costs, file);
  if (tool.json) {
    Json json = to_json(costs);
    json["file"] = file.string();
    json["run"] = describe_run(model);
    tool.print(json);
    return;
  }
  const auto& layer = costs.layer;
  std::printf(
      "one layer: %.1f us a call, %.2f + %.2f us a row (before + after attention), %.2f ns a row and key, %.2f us a "
      "key\n",
      layer.call_s * 1e6, layer.project_row_s * 1e6, layer.finish_row_s * 1e6, layer.attend_pair_s * 1e9,
      layer.attend_key_s * 1e6);
  std::printf("embedding and logits: %.2f ms\n", costs.pass_s * 1e3);
  for (const auto& [codec, row_s] : costs.decode_row_s)
    std::printf("undoing %-5s: %.3f us a row and layer\n", codec.c_str(), row_s * 1e6);
  std::printf("disk: %.0f MB/s, %.0f us a request; memory: %.0f MB/s\n", costs.disk.bytes_per_s / 1e6,
              costs.disk.latency_s * 1e6, costs.memory.bytes_per_s / 1e6);
  std::printf("kept in %s\n", file.c_str());
}

}  // namespace krul::cli
