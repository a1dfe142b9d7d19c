# cmake -DSOURCE=krul's source -DWORK=empty folder -DCXX=compiler -DGENERATOR=... -P options.cmake
# krul configured with fewer parts, and what its package says of those that it lacks. Nothing is compiled.
file(REMOVE_RECURSE ${WORK})
set(compiler -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${CXX})

# must_say(WORDS FAILS COMMAND...): what the command prints matches the words, however its lines are broken, and it fails
# if FAILS says so.
function(must_say words fails)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " said "${output}")
  set(failed FALSE)
  if(NOT status EQUAL 0)
    set(failed TRUE)
  endif()
  if(NOT failed STREQUAL fails OR NOT said MATCHES "${words}")
    string(REPLACE ";" " " command "${ARGN}")
    message(FATAL_ERROR "${command}\nended with ${status} and did not say \"${words}\":\n${output}")
  endif()
endfunction()

# Without the CPU model, nothing that needs it is built; calibration and measurements need none. Programs that are
# tuned for a processor are not to be built without optimisation by mistake.
must_say("no CMAKE_BUILD_TYPE was given; Release is taken.*Generating done" FALSE
         ${CMAKE_COMMAND} -S ${SOURCE} -B ${WORK}/state ${compiler} -DKRUL_BUILD_RUNTIME=OFF)
must_say("Generating done" FALSE ${CMAKE_COMMAND} -S ${SOURCE} -B ${WORK}/eval ${compiler} -DKRUL_BUILD_RUNTIME=OFF
                                                  -DKRUL_BUILD_EVAL=ON -DCMAKE_BUILD_TYPE=Debug)
file(STRINGS ${WORK}/eval/CMakeCache.txt type REGEX "^CMAKE_BUILD_TYPE:[A-Z]+=Debug$")
if(NOT type)
  message(FATAL_ERROR "the build type that was given is not kept")
endif()

# A build that may not use hiredis says so, and goes on.
must_say("krul::redis: hiredis not found or not wanted.*Generating done" FALSE
         ${CMAKE_COMMAND} -S ${SOURCE} -B ${WORK}/no_redis ${compiler} -DKRUL_BUILD_RUNTIME=OFF -DKRUL_WITH_REDIS=OFF)

# The headers alone need no build.
must_say("Generating done" FALSE ${CMAKE_COMMAND} -S ${SOURCE} -B ${WORK}/headers ${compiler} -DKRUL_BUILD_RUNTIME=OFF
                                                  -DKRUL_BUILD_STATE=OFF -DKRUL_BUILD_EXAMPLES=OFF)
must_say("krulConfig.cmake" FALSE ${CMAKE_COMMAND} --install ${WORK}/headers --prefix ${WORK}/prefix)
set(ask ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/asks ${compiler} -DCMAKE_PREFIX_PATH=${WORK}/prefix)
must_say("Generating done" FALSE ${ask} -B ${WORK}/asks_headers -DKRUL_COMPONENTS=headers)
foreach(component state eval model runtime)
  string(TOUPPER ${component} option)
  string(REPLACE MODEL RUNTIME option ${option})
  must_say("built without ${component}: KRUL_BUILD_${option} was OFF" TRUE
           ${ask} -B ${WORK}/asks_${component} -DKRUL_COMPONENTS=${component})
endforeach()
must_say("built without cuda: KRUL_BUILD_STATE was OFF" TRUE ${ask} -B ${WORK}/asks_cuda -DKRUL_COMPONENTS=cuda)
must_say("built without redis: KRUL_BUILD_STATE was OFF" TRUE ${ask} -B ${WORK}/asks_redis -DKRUL_COMPONENTS=redis)
must_say("built without s3: KRUL_BUILD_STATE was OFF" TRUE ${ask} -B ${WORK}/asks_s3 -DKRUL_COMPONENTS=s3)
must_say("built without encrypted: KRUL_BUILD_STATE was OFF" TRUE
         ${ask} -B ${WORK}/asks_encrypted -DKRUL_COMPONENTS=encrypted)
must_say("there is no component codecs" TRUE ${ask} -B ${WORK}/asks_codecs -DKRUL_COMPONENTS=codecs)
