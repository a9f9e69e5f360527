# cli/ - main, command table, options, progress, printing
bise_SOURCES = %D%/command.h %D%/commands.def %D%/main.c
bise_LDADD = libbise.a $(BISE_LIBS)
