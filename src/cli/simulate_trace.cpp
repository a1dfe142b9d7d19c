#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <numbers>

#include "escaped.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/eval/statistics.hpp"
#include "krul/simulate/server.hpp"
#include "simulate.hpp"

namespace krul::cli {
namespace {

using namespace krul::simulate;

[[noreturn]] void refuse(const std::string& file, std::size_t line, const std::string& format) {
  throw Failure({ErrorCode::corrupt, file + ": line " + std::to_string(line) + " is not one of " + format});
}

/// Lengths that a trace may name: no model has a longer context.
constexpr std::size_t longest_request = 10'000'000;

/// {"timestamp": ms, "input_length": tokens, "output_length": tokens, "hash_ids": [512-token blocks]} in each line.
void read_mooncake(const std::string& file, const std::string& text, std::vector<simulate::Arrival>& arrivals) {
  ConversationFinder finder;
  std::stringstream lines(text);
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.empty()) continue;
    try {
      const Json json = Json::parse(line);
      const HashedRequest request{.at_s = json.at("timestamp").get<double>() / 1e3,
                                  .input = json.at("input_length").get<std::size_t>(),
                                  .output = json.at("output_length").get<std::size_t>(),
                                  .hashes = json.at("hash_ids").get<std::vector<std::uint64_t>>()};
      if (request.input > longest_request || request.output > longest_request) refuse(file, number, "Mooncake's trace");
      arrivals.push_back(finder.add(request, 512));
    } catch (const nlohmann::json::exception&) {
      refuse(file, number, "Mooncake's trace");
    }
  }
}

/// TIMESTAMP,ContextTokens,GeneratedTokens; no conversations. Each request stands for one that comes back: all but its
/// last 128 tokens are history that was saved before.
void read_azure(const std::string& file, const std::string& text, std::vector<simulate::Arrival>& arrivals) {
  std::stringstream lines(text);
  std::string line;
  std::getline(lines, line);
  std::size_t number = 1, conversation = arrivals.size();
  double start_s = std::nan("");
  while (std::getline(lines, line)) {
    ++number;
    int year = 0;
    unsigned month = 0, day = 0, hour = 0, minute = 0;
    double second = 0;
    unsigned long context = 0, generated = 0;
    if (std::sscanf(line.c_str(), "%d-%u-%u %u:%u:%lf,%lu,%lu", &year, &month, &day, &hour, &minute, &second, &context,
                    &generated) != 8 ||
        context > longest_request || generated > longest_request)
      refuse(file, number, "Azure's trace");
    const std::chrono::sys_days date =
        std::chrono::year_month_day{std::chrono::year{year}, std::chrono::month{month}, std::chrono::day{day}};
    const double at_s =
        static_cast<double>(date.time_since_epoch().count()) * 86400 + hour * 3600 + minute * 60 + second;
    if (std::isnan(start_s)) start_s = at_s;
    const std::size_t prompt = std::clamp<std::size_t>(context, 1, 128);
    arrivals.push_back({.at_s = std::max(at_s - start_s, 0.0),
                        .conversation = conversation++,
                        .history = context > prompt ? context - prompt : 0,
                        .prompt = prompt,
                        .output = std::max<std::size_t>(generated, 1),
                        .saved = true});
  }
}

/// One conversation a file: {"requests": [{"t": s, "in": tokens, "out": tokens, "hash_ids": [64-token blocks]}]}. The
/// k-th file begins k minutes later.
void read_tester(const std::string& file, const std::string& text, std::size_t index,
                 std::vector<simulate::Arrival>& arrivals) {
  std::vector<std::uint64_t> before;
  try {
    const Json json = Json::parse(text);
    const std::size_t block = json.at("block_size").get<std::size_t>();
    for (const Json& request : json.at("requests")) {
      auto hashes = request.at("hash_ids").get<std::vector<std::uint64_t>>();
      const auto input = std::clamp<std::size_t>(request.at("in").get<std::size_t>(), 1, longest_request);
      const std::size_t history = std::min(common_prefix(before, hashes) * block, input - 1);
      arrivals.push_back({.at_s = request.at("t").get<double>() + 60 * static_cast<double>(index),
                          .conversation = index,
                          .history = history,
                          .prompt = input - history,
                          .output = std::clamp<std::size_t>(request.at("out").get<std::size_t>(), 1, longest_request)});
      before = std::move(hashes);
    }
  } catch (const nlohmann::json::exception&) {
    throw Failure({ErrorCode::corrupt, file + " is not a conversation of kv-cache-tester"});
  }
}

/// The arrivals as jobs under one strategy.
std::vector<Job> jobs_of(const std::vector<simulate::Arrival>& arrivals, const Simulated& simulated,
                         const SimulatedStrategy& strategy) {
  const auto times = [](const Prediction& predicted) {
    return PrefillTimes{predicted.busy[Resource::link], predicted.busy[Resource::cores], predicted.first_token_s};
  };
  std::map<std::size_t, double> token_bytes;  // by thousands of tokens
  const auto stored_bytes = [&](std::size_t tokens) {
    const std::size_t thousands = (tokens + 999) / 1000;
    const auto [known, first] = token_bytes.try_emplace(thousands);
    if (first)
      known->second = strategy.simulate(simulated.scene(thousands * 1000, 128)).stored_bytes /
                      static_cast<double>(thousands * 1000);
    return known->second * static_cast<double>(tokens);
  };
  std::vector<Job> jobs;
  for (const simulate::Arrival& arrival : arrivals) {
    const Scene whole = simulated.scene(0, arrival.history + arrival.prompt);
    const double recompute_s = pass_cores_s(whole, 0, whole.prompt) + whole.costs.pass_s;
    jobs.push_back({.at_s = arrival.at_s,
                    .conversation = arrival.conversation,
                    .has_history = arrival.history > 0,
                    .saved = arrival.saved,
                    .restored = {},
                    .recomputed = {0, recompute_s, recompute_s},
                    .tokens = arrival.tokens(),
                    .output = arrival.output,
                    .stored_bytes = stored_bytes(arrival.tokens())});
    if (arrival.history > 0)
      jobs.back().restored = times(strategy.simulate(simulated.scene(arrival.history, arrival.prompt)).predicted);
  }
  return jobs;
}

Server server_of(const SimulateOptions& options, const Simulated& simulated) {
  const Costs& costs = simulated.base.costs;
  const auto layers = static_cast<double>(simulated.base.shape.layers);
  return {.device_tokens = simulated.device_tokens,
          .host_bytes = options.host_gb * 1e9,
          .decode_step_s = layers * costs.layer.call_s + costs.pass_s,
          .decode_row_s = layers * (costs.layer.project_row_s + costs.layer.finish_row_s),
          .decode_token_s = layers * (costs.layer.attend_pair_s + costs.layer.attend_key_s)};
}

/// Below 1: that share of the conversations, spread evenly over their numbers, with their own pauses. Above 1: all of
/// them, so many times as fast.
std::vector<Job> at_load(const std::vector<Job>& jobs, double load) {
  std::vector<Job> chosen;
  for (Job job : jobs) {
    const double place = static_cast<double>(job.conversation) * std::numbers::phi;
    if (place - std::floor(place) >= load) continue;
    if (load > 1) job.at_s /= load;
    chosen.push_back(job);
  }
  if (chosen.empty()) throw Failure({ErrorCode::invalid_argument, "--load leaves no request of the trace"});
  return chosen;
}

}  // namespace

std::vector<simulate::Arrival> read_traces(const std::vector<std::string>& files) {
  std::vector<simulate::Arrival> arrivals;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const std::string& file = files[i];
    const std::string text = unwrap(read_text(file));
    const std::string extension = std::filesystem::path(file).extension();
    if (extension == ".csv") {
      read_azure(file, text, arrivals);
    } else if (extension == ".json") {
      read_tester(file, text, i, arrivals);
    } else if (extension == ".jsonl" && files.size() == 1) {
      read_mooncake(file, text, arrivals);
    } else {
      throw Failure({ErrorCode::unsupported, file + ": a trace is one .jsonl of Mooncake, one or more .csv of Azure or "
                                                    ".json of kv-cache-tester; unpack .gz files first (gunzip)"});
    }
  }
  if (arrivals.empty()) throw Failure({ErrorCode::invalid_argument, "the trace holds no requests"});
  std::stable_sort(arrivals.begin(), arrivals.end(),
                   [](const simulate::Arrival& a, const simulate::Arrival& b) { return a.at_s < b.at_s; });
  return arrivals;
}

void simulate_trace(const SimulateOptions& options, const Simulated& simulated, const Tool& tool) {
  const auto arrivals = read_traces(options.traces);
  const Server server = server_of(options, simulated);
  Json rows = Json::array();
  eval::ResultTable table({{"strategy", "", eval::ResultTable::Align::left},
                           {"load", "times"},
                           {"done", "1/s"},
                           {"first token", "p50, s"},
                           {"", "p95, s"},
                           {"", "p99, s"},
                           {"returning", "p50, s"},
                           {"restored", "%"},
                           {"compute", "%"},
                           {"link", "%"}});
  for (const SimulatedStrategy& strategy : chosen_strategies(options.strategies)) {
    tool.progress("simulating " + std::string(strategy.name));
    const auto jobs = jobs_of(arrivals, simulated, strategy);
    for (const double load : options.loads) {
      const auto loaded = at_load(jobs, load);
      const Replay replayed = replay(loaded, server);
      std::vector<double> waits, returning;
      // What was done while requests still came; behind that the queue only drains.
      const double window_s = loaded.back().at_s;
      std::size_t done = 0, completed = 0;
      double end_s = 0;
      for (std::size_t i = 0; i < loaded.size(); ++i) {
        if (std::isnan(replayed.ended_s[i])) continue;
        ++completed;
        waits.push_back(replayed.wait_s[i]);
        if (loaded[i].has_history) returning.push_back(replayed.wait_s[i]);
        if (replayed.ended_s[i] <= window_s) ++done;
        end_s = std::max(end_s, replayed.ended_s[i]);
      }
      if (waits.empty())
        throw Failure({ErrorCode::too_large, "no request of the trace fits into device memory; see --device-memory"});
      const double histories = static_cast<double>(replayed.restored + replayed.lost);
      const auto at = [&](double share) { return eval::quantile(waits, share); };
      rows.push_back({{"strategy", strategy.name},
                      {"load", load},
                      {"requests_per_s", window_s > 0 ? static_cast<double>(done) / window_s : 0},
                      {"ttft_p50_ms", at(0.5) * 1e3},
                      {"ttft_p95_ms", at(0.95) * 1e3},
                      {"ttft_p99_ms", at(0.99) * 1e3},
                      {"returning_p50_ms", returning.empty() ? Json() : Json(eval::quantile(returning, 0.5) * 1e3)},
                      {"returning_p99_ms", returning.empty() ? Json() : Json(eval::quantile(returning, 0.99) * 1e3)},
                      {"completed", completed},
                      {"refused", loaded.size() - completed},
                      {"restored", replayed.restored},
                      {"lost", replayed.lost},
                      {"compute_share", replayed.compute_s / end_s},
                      {"link_share", replayed.link_s / end_s}});
      table.add({std::string(strategy.name), eval::cell(load, 2), eval::cell(rows.back()["requests_per_s"], 2),
                 eval::cell(at(0.5), 2), eval::cell(at(0.95), 2), eval::cell(at(0.99), 2),
                 returning.empty() ? "-" : eval::cell(eval::quantile(returning, 0.5), 2),
                 eval::cell(histories > 0 ? 100 * static_cast<double>(replayed.restored) / histories : 0),
                 eval::cell(100 * replayed.compute_s / end_s), eval::cell(100 * replayed.link_s / end_s)});
    }
  }
  tool.progress("");
  if (tool.json) {
    tool.print({{"hardware", simulated.hardware},
                {"geometry", simulated.base.shape.name},
                {"link_bytes_per_s", simulated.base.costs.link.bytes_per_s},
                {"requests", arrivals.size()},
                {"host_bytes", server.host_bytes},
                {"device_tokens", server.device_tokens},
                {"results", rows}});
    return;
  }
  std::printf(
      "simulated: %zu requests, %s on %s, link %.2f GB/s, %.0f GB for saved conversations, room for %.0f tokens\n\n%s",
      arrivals.size(), std::string(simulated.base.shape.name).c_str(), escaped(simulated.hardware).c_str(),
      simulated.base.costs.link.bytes_per_s / 1e9, options.host_gb, server.device_tokens, table.text().c_str());
}

}  // namespace krul::cli
