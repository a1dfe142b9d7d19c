#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/finite.hpp"
#include "krul/core/version.hpp"
#include "revision.hpp"
#include "standard_streams.hpp"
#include "verbs.hpp"

namespace {

using namespace krul::cli;

/// No option takes an empty value: it is a variable of a script that was not set, and would mean the default.
void refuse_empty_values(CLI::App& app) {
  const CLI::Validator not_empty(
      [](std::string& text) -> std::string { return text.empty() ? "its value is empty" : ""; }, "");
  for (auto* option : app.get_options([](CLI::Option* each) { return each->get_expected_min() > 0; }))
    option->check(not_empty);
  for (auto* verb : app.get_subcommands({})) refuse_empty_values(*verb);
}

/// The program's words, last first, as CLI11 takes them. It would take the next word as the value of "--name=".
std::vector<std::string> words_of(int argc, char** argv) {
  std::vector<std::string> words;
  bool all_options = true;
  for (const char* const* at = argv + 1; at < argv + argc; ++at) {
    words.emplace_back(*at);
    all_options = all_options && words.back() != "--";
    const bool is_empty = words.back().starts_with("--") && words.back().find('=') == words.back().size() - 1;
    if (!all_options || !is_empty) continue;
    words.back().pop_back();
    words.emplace_back();
  }
  std::reverse(words.begin(), words.end());
  return words;
}

/// Whether the words ask for JSON: where parsing ends early, no flag was taken yet.
bool asks_for_json(std::span<const char* const> words) {
  const auto end = std::find(words.begin(), words.end(), std::string_view("--"));
  return std::find(words.begin(), end, std::string_view("--json")) != end;
}

/// What is wrong with the program's words: what nothing knows comes before what is missing, which may be the same.
std::string usage(const CLI::App& program, const CLI::ParseError& error) {
  const CLI::App* verb = &program;
  std::string path = "krul";
  for (auto chosen = verb->get_subcommands(); !chosen.empty(); chosen = verb->get_subcommands())
    path += " " + (verb = chosen.front())->get_name();
  std::string message = error.what();
  const bool has_verbs = verb->get_require_subcommand_min() > 0;
  bool lists_verbs = has_verbs;
  if (const auto unknown = program.remaining(true); !unknown.empty() && error.get_name() == "RequiredError") {
    const bool is_option = unknown.front().starts_with('-');
    lists_verbs = has_verbs && !is_option;
    message = path +
              (is_option   ? " has no option"
               : has_verbs ? " has no verb"
                           : " takes no") +
              " \"" + unknown.front() + "\"";
  }
  if (lists_verbs) {
    std::string verbs;
    for (const auto* each : verb->get_subcommands([](const CLI::App*) { return true; }))
      verbs += (verbs.empty() ? "; there are: " : ", ") + each->get_name();
    message += verbs;
  }
  return message + "; see " + path + " --help";
}

/// The end of a verb that has said itself what it failed with.
int ended(const Tool& tool, std::string_view code, const std::string& message, int exit_code) {
  if (tool.json) tool.print_error(code, message);
  tool.write_result();
  return exit_code;
}

int failed(const Tool& tool, std::string_view code, const std::string& message) {
  tool.say("krul: " + krul::escaped(message));
  return ended(tool, code, message, 1);
}

/// The help or the version.
int answered(const Tool& tool, const CLI::App& program, const CLI::Success& asked_for) {
  if (!tool.json) return program.exit(asked_for);
  if (asked_for.get_name() == "CallForVersion")
    tool.print({{"version", krul::krul_version}, {"revision", revision()}});
  else
    tool.print({{"help", program.help()}});
  tool.write_result();
  return 0;
}

int run(int argc, char** argv, Tool& tool) {
  CLI::App program{"krul: fast state restoration for multi-turn conversations", "krul"};
  program.set_version_flag("--version",
                           std::string(krul::krul_version) + " (" + std::string(krul::cli::revision()) + ")");
  program.add_flag("--json", tool.json, "one JSON object on standard output, nothing else there")
      ->disable_flag_override();
  program.fallthrough();
  program.require_subcommand(1);
  for (const auto add : {add_chat, add_generate, add_score, add_calibrate, add_evaluate, add_bench, add_demo,
                         add_simulate, add_saved, add_show, add_housekeeping, add_strategies})
    add(program, tool);
  refuse_empty_values(program);
  try {
    program.parse(words_of(argc, argv));
    tool.end_progress();
    tool.write_result();
    return 0;
  } catch (const CLI::Success& asked_for) {
    tool.json = asks_for_json({argv, static_cast<std::size_t>(argc)});
    return answered(tool, program, asked_for);
  } catch (const CLI::ParseError& error) {
    tool.json = asks_for_json({argv, static_cast<std::size_t>(argc)});
    return failed(tool, krul::name(krul::ErrorCode::invalid_argument), usage(program, error));
  } catch (const Told& told) {
    return ended(tool, krul::name(told.error.code), told.error.message, told.exit_code);
  } catch (const Failure& failure) {
    return failed(tool, krul::name(failure.error.code), failure.error.message);
  } catch (const krul::NotFiniteError& error) {
    return failed(tool, krul::name(krul::ErrorCode::backend), error.what());
  } catch (const std::bad_alloc&) {
    return failed(tool, "out_of_memory", "out of memory; use a shorter conversation or a smaller model");
  } catch (const std::exception& error) {
    return failed(tool, "internal", std::string("internal error: ") + error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows beyond its limit is a write that fails, and says so
  prepare_standard_streams();
  Tool tool;
  const int code = run(argc, argv, tool);
  if (const auto written = flush_standard_output(); !written) {
    tool.say("krul: " + written.error().message);
    return 1;
  }
  return code;
}
