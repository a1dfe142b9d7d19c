#include <cstdio>
#include <sstream>

#include "json_table.hpp"
#include "krul/eval/statistics.hpp"
#include "krul/simulate/named.hpp"
#include "krul/simulate/trace_formats.hpp"
#include "krul/simulate/trace_replay.hpp"
#include "simulate.hpp"

namespace krul::cli {
namespace {

using namespace krul::simulate;

/// Requests of one or more trace files, by time: Mooncake's .jsonl, Azure's .csv, kv-cache-tester's .json.
std::vector<simulate::Arrival> read_traces(const std::vector<std::string>& files) {
  std::vector<simulate::Arrival> arrivals;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const std::string& file = files[i];
    const std::string text = unwrap(read_text(file));
    const std::string extension = std::filesystem::path(file).extension();
    Result<std::vector<simulate::Arrival>> more;
    if (extension == ".csv") {
      more = parse_azure_trace(text, arrivals.size());
    } else if (extension == ".json") {
      more = parse_tester_trace(text, i);
    } else if (extension == ".jsonl" && files.size() == 1) {
      more = parse_mooncake_trace(text);
    } else {
      throw Failure({ErrorCode::unsupported, file + ": a trace is one .jsonl of Mooncake, one or more .csv of Azure or "
                                                    ".json of kv-cache-tester; unpack .gz files first (gunzip)"});
    }
    if (!more) throw Failure({more.error().code, file + ": " + more.error().message});
    arrivals.insert(arrivals.end(), more->begin(), more->end());
  }
  if (arrivals.empty()) throw Failure({ErrorCode::invalid_argument, "the trace holds no requests"});
  std::ranges::stable_sort(arrivals, {}, &simulate::Arrival::at_s);
  return arrivals;
}

Json served_row(const Served& served, std::string_view strategy, double load) {
  const auto wait_ms = [](const std::vector<double>& waits, double share) {
    return waits.empty() ? Json() : Json(eval::quantile(waits, share) * 1e3);
  };
  return {{"strategy", strategy},
          {"load", load},
          {"requests_per_s", served.requests_per_s},
          {"ttft_p50_ms", wait_ms(served.wait_s, 0.5)},
          {"ttft_p95_ms", wait_ms(served.wait_s, 0.95)},
          {"ttft_p99_ms", wait_ms(served.wait_s, 0.99)},
          {"returning_p50_ms", wait_ms(served.returning_wait_s, 0.5)},
          {"returning_p99_ms", wait_ms(served.returning_wait_s, 0.99)},
          {"completed", served.wait_s.size()},
          {"refused", served.refused},
          {"restored", served.restored},
          {"lost", served.lost},
          {"compute_share", served.compute_share},
          {"link_share", served.link_share}};
}

std::string trace_table(Json rows) {
  for (Json& row : rows) {
    const double restored = row["restored"], histories = restored + row["lost"].get<double>();
    row["found"] = histories > 0 ? restored / histories : 0;
  }
  return table_text(rows, {JsonColumn::text("strategy", "strategy"),
                           {{"load"}, "load", "times", 2},
                           {{"requests_per_s"}, "done", "1/s", 2},
                           {{"ttft_p50_ms"}, "first token", "p50, s", 2, 1e-3},
                           {{"ttft_p95_ms"}, "", "p95, s", 2, 1e-3},
                           {{"ttft_p99_ms"}, "", "p99, s", 2, 1e-3},
                           {{"returning_p50_ms"}, "returning", "p50, s", 2, 1e-3},
                           {{"found"}, "restored", "%", 1, 100},
                           {{"compute_share"}, "compute", "%", 1, 100},
                           {{"link_share"}, "link", "%", 1, 100}});
}

}  // namespace

void simulate_trace(const SimulateOptions& options, const Simulated& simulated, const Tool& tool) {
  const auto arrivals = read_traces(options.traces);
  const Scene& scene = simulated.scene;
  const Server server = server_of(scene, {simulated.device_tokens, options.host_gb * 1e9});
  Json rows = Json::array();
  for (const SimulatedStrategy& strategy : unwrap(strategies_named(options.strategies))) {
    tool.progress("simulating " + strategy.name);
    const auto jobs = jobs_of(arrivals, scene, strategy);
    for (const double load : options.loads) {
      const auto loaded = at_load(jobs, load);
      if (loaded.empty()) throw Failure({ErrorCode::invalid_argument, "--load leaves no request of the trace"});
      auto served = serve(loaded, server);
      if (!served) throw Failure({served.error().code, served.error().message + "; see --device-memory"});
      rows.push_back(served_row(*served, strategy.name, load));
    }
  }
  tool.progress("");
  if (tool.json)
    return tool.print({{"hardware", simulated.hardware},
                       {"geometry", scene.shape.name},
                       {"link_bytes_per_s", scene.costs.link.bytes_per_s},
                       {"requests", arrivals.size()},
                       {"host_bytes", server.host_bytes},
                       {"device_tokens", server.device_tokens},
                       {"results", rows}});
  std::printf(
      "simulated: %zu requests, %s on %s, link %.2f GB/s, %.0f GB for saved conversations, room for %.0f tokens\n\n%s",
      arrivals.size(), std::string(scene.shape.name).c_str(), escaped(simulated.hardware).c_str(),
      scene.costs.link.bytes_per_s / 1e9, options.host_gb, server.device_tokens, trace_table(rows).c_str());
}

}  // namespace krul::cli
